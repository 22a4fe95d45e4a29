"""The service's own metrics: what one replica answered, how fast, and how its store fared.

Every label has a closed set of values, so the number of series does not grow with runs, projects or clients. One
process per replica: there is no shared state between processes to keep.
"""

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from dcao_proto.policy.reasons import REASONS
from dcao_proto.problem import ProblemKind
from dcao_server.condition import WROTE, StoreCondition
from dcao_server.metrics.buckets import COMPUTE_SECONDS, LATENCY_SECONDS
from dcao_server.metrics.series import Counts, Timings
from dcao_server.store.contract import StoreUnavailableError
from dcao_server.store.trouble import TroubleKind

DecisionOutcome = Literal["decided", "replayed", "healed", "pending", "fenced", "stale", "unpersisted", "backfilled"]

DECISION_OUTCOMES: tuple[DecisionOutcome, ...] = (
    "decided",  # new, and in the history
    "replayed",  # the step had been decided before
    "healed",  # new, and the history had lost writes which the client's token made up for
    "pending",  # other workers' observations are awaited
    "fenced",  # refused: a newer attempt owns the run
    "stale",  # refused: the history is past this step
    "unpersisted",  # answered without the store
    "backfilled",  # a decision that a client made on its own, replayed from its journal
)
OBSERVATION_STATUSES = ("ok", "breakdown", "diverged", "unavailable")
_REASONS = frozenset(REASONS)
PROBLEM_SLUGS = frozenset(kind.slug for kind in ProblemKind)
STORE_ERROR_KINDS = tuple(kind.label for kind in TroubleKind)
# One more series for each counter and histogram, which no rule and no panel reads.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client ships it without annotations
OTHER = "other"  # label value for whatever a plug-in or a client may invent


class Metrics:
    """Every counter, gauge and histogram of one replica, on a registry of its own.

    Args:
        registry: where to register; a new one by default, so that two applications in one process do not collide.
        process: also export memory, CPU, file descriptors and garbage collection of this process.

    Nothing here blocks or does I/O: an increment takes about a microsecond.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, process: bool = True) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self.condition = StoreCondition()
        self._declare()
        self._declare_store()
        self._seed()
        if process:
            ProcessCollector(registry=self.registry)
            GCCollector(registry=self.registry)

    def _declare(self) -> None:
        registry = self.registry
        build = Info("dcao_build", "Version of the controller that answers.", registry=registry)
        build.info({"version": version("dcao"), "python": platform.python_version()})
        self._requests = Counts(
            "dcao_http_requests_total",
            "HTTP requests answered, by route template, method and status code.",
            ("route", "method", "code"),
            registry,
        )
        self._request_seconds = Timings(
            "dcao_http_request_duration_seconds",
            "Seconds from a request's first byte to the end of its answer; event streams are not counted.",
            ("route", "method"),
            LATENCY_SECONDS,
            registry,
        )
        self._in_progress = Gauge(
            "dcao_http_requests_in_progress",
            "HTTP requests being answered, event streams included.",
            registry=registry,
        )
        self._decisions = Counts(
            "dcao_decisions_total", "Observations answered, by what became of them.", ("outcome",), registry
        )
        self._reasons = Counts("dcao_decision_reasons_total", "Reason codes in new decisions.", ("reason",), registry)
        self._observations = Counts(
            "dcao_observations_total", "Observations received, by their status.", ("status",), registry
        )
        self._policy_seconds = Timings(
            "dcao_policy_duration_seconds",
            "Seconds that the law itself took for one decision.",
            (),
            COMPUTE_SECONDS,
            registry,
        )
        self._problems = Counts(
            "dcao_problems_total", "Problem documents sent, by kind of problem.", ("kind",), registry
        )
        self._event_streams = Gauge("dcao_event_streams", "Open server-sent event streams.", registry=registry)
        self._progress = _InProgress()
        self._in_progress.set_function(lambda: self._progress.count)

    def _declare_store(self) -> None:
        registry = self.registry
        self._store_seconds = Timings(
            "dcao_store_call_duration_seconds",
            "Seconds of a call to the store, failed ones included.",
            ("op",),
            LATENCY_SECONDS,
            registry,
        )
        self._store_errors = Counts("dcao_store_errors_total", "Failed calls to the store.", ("op", "kind"), registry)
        self._store_up = Gauge(
            "dcao_store_up",
            "1 while the store can be read and written, 0 while not; as last seen.",
            registry=registry,
        )

    def _seed(self) -> None:
        """Every closed label value exists from the start: `rate` sees the first event, and absence means absence."""
        for outcome in DECISION_OUTCOMES:
            self._decisions.seed(outcome)
        for status in OBSERVATION_STATUSES:
            self._observations.seed(status)
        for reason in (*REASONS, OTHER):
            self._reasons.seed(reason)
        for slug in PROBLEM_SLUGS:
            self._problems.seed(slug)
        self.store_up(True)

    def http(self, route: str, method: str, status: int, seconds: float | None) -> None:
        """One answered request.

        Args:
            route: the template (`/v1/projects/{project}/runs`), never the path itself.
            method: one of HTTP's methods.
            status: status code of the answer.
            seconds: how long it took; None for what is not to be timed.
        """
        self._requests.inc(route, method, str(status))
        if seconds is not None:
            self._request_seconds.observe(seconds, route, method)

    def request_in_progress(self) -> AbstractContextManager[None]:
        """Counts a request as being answered while the block runs."""
        return self._progress

    def requests_in_progress(self) -> int:
        """How many requests are being answered now."""
        return self._progress.count

    def decided(self, outcome: DecisionOutcome, reasons: Sequence[str] = ()) -> None:
        """One observation answered; `reasons` of a new decision, none for a replayed or refused one."""
        self._decisions.inc(outcome)
        known = reasons if _REASONS.issuperset(reasons) else [r if r in _REASONS else OTHER for r in reasons]
        self._reasons.inc_each(known)

    def backfilled(self, *, stored: int, replayed: int = 0, fenced: int = 0) -> None:
        """One call of `decisions:backfill`, as its result says."""
        self._decisions.inc("backfilled", by=stored)
        self._decisions.inc("replayed", by=replayed)
        self._decisions.inc("fenced", by=fenced)

    def observed(self, status: str) -> None:
        """One observation received, with its status."""
        self._observations.inc(status if status in OBSERVATION_STATUSES else OTHER)

    def policy_took(self, seconds: float) -> None:
        """The law decided once."""
        self._policy_seconds.observe(seconds)

    def store_took(self, op: str, seconds: float, *, wrote: bool) -> None:
        """The store answered a call, for callers that do without `store_call` on the hot path."""
        if not self._up:
            self.store_up(self.condition.answered(wrote=wrote))
        self._store_seconds.observe(seconds, op)

    def problem(self, slug: str) -> None:
        """One problem document sent, by its kind's slug."""
        self._problems.inc(slug if slug in PROBLEM_SLUGS else OTHER)

    @contextmanager
    def event_stream(self) -> Iterator[None]:
        """Counts an open event stream while the block runs."""
        with self._event_streams.track_inprogress():
            yield

    @contextmanager
    def store_call(self, op: str) -> Iterator[None]:
        """Times a call to the store. An exception goes through and is counted, unless it is a problem to report.

        Args:
            op: which operation, from the code, never from a request: `append`, `read`, `ping`, …
        """
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            if isinstance(error, StoreUnavailableError):
                self.store_failed(op, error)
            elif store_error(error):
                self._store_errors.inc(op, OTHER)
            raise
        else:
            self.store_up(self.condition.answered(wrote=op in WROTE))
        finally:
            self._store_seconds.observe(time.perf_counter() - started, op)

    def store_failed(self, op: str, error: StoreUnavailableError) -> None:
        """One failed call to the store, for callers that handle the exception themselves."""
        self._store_errors.inc(op, error.trouble.kind.label)
        if self.condition.failed(error):
            self.store_up(False)

    def store_up(self, up: bool) -> None:
        """What a readiness check found."""
        self._up = up
        self._store_up.set(1 if up else 0)


class _InProgress(AbstractContextManager[None]):
    """Counts the blocks that run; one object for all requests."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_error: object) -> None:
        self.count -= 1


def store_error(error: BaseException) -> bool:
    """Whether what a store call raised is a failure, rather than an answer (no such run, fenced, …)."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return not names & {"ProblemError", "LookupError", "ValueError"}
