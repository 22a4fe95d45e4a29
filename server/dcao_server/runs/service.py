"""What may happen to a run."""

import time
from collections.abc import Callable

from dcao_proto import Attempt, AttemptRequest, ProblemError, ProblemKind, ProjectList, Run, RunAbout, RunSpec
from dcao_proto.message import MAX_ATTEMPT
from dcao_proto.policy import InvalidTokenError
from dcao_proto.run import RunStatus
from dcao_server.metrics import Metrics
from dcao_server.responses import PAGE_BYTES, page_json
from dcao_server.runs import cursor as cursors
from dcao_server.runs.identity import bound, bound_from, check_version, digest_of, other_specification
from dcao_server.runs.readable import readable_spec
from dcao_server.runs.status import describe, status_of
from dcao_server.security.keys import ApiKey, Scope
from dcao_server.store.contract import (
    Creation,
    HistoryStore,
    Outcome,
    Restart,
    RestartResult,
    RunKey,
    StoredRun,
    StoredStatus,
)
from dcao_server.turns import Turn

SCAN = 100
"""Runs read from the store in one go."""


class RunService:
    """Creates, finds, restarts, ends and deletes runs.

    Args:
        store: where they are.
        metrics: times and counts the calls to it.
        stale_factor: a run is stale after this many of its usual intervals in silence.
        stale_floor: and never before this many seconds.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: HistoryStore,
        metrics: Metrics,
        *,
        stale_factor: float,
        stale_floor: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._factor = stale_factor
        self._floor = stale_floor
        self._clock = clock

    async def projects(self, caller: ApiKey | None, *, cursor: str | None, limit: int) -> ProjectList:
        """Projects that a key may read, without one all, after a cursor: the last name of the page before.

        Raises:
            ProblemError: invalid cursor.
        """
        after = "" if cursor is None else cursors.check_name(cursor)
        found: list[str] = []
        while len(found) <= limit:  # one more than asked for tells whether there is another page
            with self._metrics.store_call("projects"):
                batch = await self._store.projects(after, SCAN)
            found.extend(name for name in batch if caller is None or caller.scope_in(name) >= Scope.READ)
            if len(batch) < SCAN:
                break
            after = batch[-1]
        more = len(found) > limit
        return ProjectList(projects=tuple(found[:limit]), next_cursor=found[limit - 1] if more else None)

    async def create(self, key: RunKey, spec: RunSpec) -> tuple[Run, bool]:
        """The run, and whether this call created it.

        Raises:
            ProblemError: invalid policy; run-conflict when it exists with another specification.
        """
        policy = bound(spec)
        if spec.quorum is not None and spec.quorum > spec.workers:
            raise ProblemError(
                ProblemKind.INVALID, f"expected quorum ≤ workers, got quorum {spec.quorum} of {spec.workers} workers"
            )
        digest = digest_of(policy.spec_segment)
        creation = Creation(policy.spec_segment, digest, policy.initial_token(), self._clock())
        with self._metrics.store_call("create"):
            created = await self._store.create(key, creation)
        if created is None:
            raise not_found(key)
        run, new = created
        if run.digest != digest:
            raise ProblemError(
                ProblemKind.RUN_CONFLICT,
                f"expected the specification that run {key.run} of project {key.project} was created with, got "
                "another; choose another name, or GET the run to see its specification",
            )
        return self.describe(run), new

    async def get(self, key: RunKey) -> Run:
        """The run.

        Raises:
            ProblemError: run-not-found.
        """
        return self.describe(await self.stored(key))

    async def stored(self, key: RunKey) -> StoredRun:
        """The run as the store has it.

        Raises:
            ProblemError: run-not-found.
        """
        with self._metrics.store_call("get"):
            run = await self._store.get(key)
        if run is None:
            raise not_found(key)
        return run

    def describe(self, run: StoredRun) -> Run:
        """The run as the wire has it, stale or not as of now."""
        return describe(run, self.status(run))

    def status(self, run: StoredRun) -> RunStatus:
        """The run's status as of now."""
        return status_of(run, self._clock(), factor=self._factor, floor=self._floor)

    async def page(
        self, project: str, *, status: RunStatus | None, labels: dict[str, str], cursor: str | None, limit: int
    ) -> bytes:
        """A RunPage as JSON: runs of a project, newest first, those with the status and all of the labels.

        Raises:
            ProblemError: invalid cursor.
        """
        after = None if cursor is None else cursors.decode(cursor)
        filtered = status is not None or bool(labels)
        found: list[StoredRun] = []
        size = 0
        turn = Turn()
        while len(found) <= limit:
            # One more than asked for tells whether there is another page.
            wanted = SCAN if filtered else min(SCAN, limit + 1 - len(found))
            with self._metrics.store_call("page"):
                batch = await self._store.page(project, after, wanted)
            for run in batch:
                if self._matches(run, status, labels):
                    found.append(run)
                    size += len(run.spec)
                    if size > PAGE_BYTES:
                        limit = min(limit, max(len(found) - 1, 1))
                await turn.breathe()
            if len(batch) < wanted:
                break
            after = (batch[-1].created_at, batch[-1].key.run)
        shown = found[:limit]
        more = len(found) > limit
        parts = []
        for run in shown:
            parts.append(self.describe(run).wire_json())
            await turn.breathe()
        return page_json("runs", parts, cursors.encode(shown[-1].created_at, shown[-1].key.run) if more else None)

    def _matches(self, run: StoredRun, status: RunStatus | None, labels: dict[str, str]) -> bool:
        if status is not None and self.status(run) != status:
            return False
        return not labels or labels.items() <= readable_spec(run.spec).labels.items()

    async def end(self, key: RunKey, status: StoredStatus, reason: str | None) -> Run:
        """Ends a run. The same end again is the same answer.

        Raises:
            ProblemError: run-not-found; run-ended when it has ended otherwise.
        """
        with self._metrics.store_call("end"):
            run = await self._store.end(key, status, reason, self._clock())
        if run is None:
            raise not_found(key)
        if run.status != status:
            raise ProblemError(
                ProblemKind.RUN_ENDED,
                f"expected a run that goes on, got one that has {run.status}; a new attempt opens it again",
            )
        return self.describe(run)

    async def annotate(self, key: RunKey, about: RunAbout) -> Run:
        """Takes what people wrote about a run, instead of what they wrote before.

        Raises:
            ProblemError: run-not-found.
        """
        text = "" if about == RunAbout() else about.wire_json().decode()
        with self._metrics.store_call("annotate"):
            run = await self._store.annotate(key, text, self._clock())
        if run is None:
            raise not_found(key)
        return self.describe(run)

    async def delete(self, key: RunKey) -> None:
        """Deletes a run with its history.

        Raises:
            ProblemError: run-not-found.
        """
        with self._metrics.store_call("delete"):
            existed = await self._store.delete(key, self._clock())
        if not existed:
            raise not_found(key)

    async def restart(self, key: RunKey, request: AttemptRequest) -> Attempt:
        """The attempt that owns the run from now on.

        Raises:
            ProblemError: run-not-found, invalid-state, fenced.
        """
        if (request.state is None) != (request.version is None):
            raise ProblemError(
                ProblemKind.INVALID, "expected state and version of one decision, got one of them; send both or neither"
            )
        check_version(request.version)
        digest = ""
        if request.state is not None:
            policy = bound_from(request.state)
            try:
                policy.state_of(request.state)
            except InvalidTokenError as error:
                raise ProblemError(ProblemKind.INVALID_STATE, str(error)) from error
            digest = digest_of(policy.spec_segment)
        restart = Restart(request.attempt, request.step, request.state, request.version, digest, self._clock())
        with self._metrics.store_call("attempt"):
            result = await self._store.begin_attempt(key, restart)
        if result.outcome is Outcome.MISSING and request.state is not None and request.version:
            result = await self._restart_lost(key, restart)
        if result.outcome is Outcome.MISSING:
            raise not_found(key)
        if result.outcome is Outcome.OTHER_SPEC:
            raise other_specification()
        if result.outcome is Outcome.FENCED:
            raise fenced(result.attempt)
        if result.outcome is Outcome.EXHAUSTED:
            raise exhausted(key)
        return Attempt(attempt=result.attempt, version=result.version, state=result.state)

    async def _restart_lost(self, key: RunKey, restart: Restart) -> RestartResult:
        """The store has lost the run, and the checkpoint's token holds all that is needed to go on."""
        assert restart.state is not None  # noqa: S101
        assert restart.version is not None  # noqa: S101
        policy = bound_from(restart.state)
        creation = Creation(
            policy.spec_segment, restart.digest, restart.state, restart.now, restart.attempt or 2, restart.version
        )
        with self._metrics.store_call("restore"):
            await self._store.create(key, creation, restore=True)
        with self._metrics.store_call("attempt"):
            return await self._store.begin_attempt(key, restart._replace(attempt=creation.attempt))


def not_found(key: RunKey) -> ProblemError:
    """No such run."""
    return ProblemError(
        ProblemKind.RUN_NOT_FOUND,
        f"expected an existing run, got {key.run} of project {key.project}; create it with PUT, or list the project's",
    )


def exhausted(key: RunKey) -> ProblemError:
    """The run has had all the attempts that a run may have."""
    return ProblemError(
        ProblemKind.RUN_ENDED,
        f"expected a run of fewer than {MAX_ATTEMPT} attempts, got {key.run}, which has had them all; go on from its "
        "checkpoint as a run with another name",
    )


def fenced(owner: int) -> ProblemError:
    """A newer attempt owns the run."""
    return ProblemError(
        ProblemKind.FENCED,
        f"expected an attempt that owns the run, which is {owner}; stop this older one, or POST attempts to start anew",
    )
