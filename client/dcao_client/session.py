"""The session: one run's decisions, with the controller or without it.

`decide` never raises into training, never blocks it longer than the deadline, and never needs the controller: what the
controller would answer is a pure function of what the client holds, so the client can answer itself.
"""

import atexit
import logging
import os
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from dcao_client.courier import Courier
from dcao_client.errors import DcaoError, RefusedError, UnreachableError
from dcao_client.journal import Journal, JournalHeader
from dcao_client.lineage import Lineage
from dcao_client.settings import ClientSettings
from dcao_client.transport import Transport
from dcao_proto import Decision, Observation, RunEnd, RunSpec
from dcao_proto.paths import FAIL, FINISH
from dcao_proto.policy import bind

log = logging.getLogger("dcao")

RESERVE = 0.02  # s of the deadline, a tenth of it at most, in which to decide in-process when no answer has come


@dataclass
class SessionStats:
    """What the session cost and what became of its decisions."""

    decisions: int = 0
    in_process: int = 0  # decided without the controller
    waited: float = 0.0  # s, in total
    longest_wait: float = 0.0  # s


class Session:
    """Decides for one run.

    Args:
        spec: what the run is; its policy is evaluated in-process when the controller is away.
        run: name; from `DCAO_RUN`, or made up.
        project: from `DCAO_PROJECT`, or `default`.
        url: the controller; from `DCAO_URL`. None at all: every decision is made in-process and journalled.
        api_key: from `DCAO_API_KEY` or the file `DCAO_API_KEY_FILE` names.
        deadline: seconds that a decision may take, 0.25 unless set.
        journal_dir: where decisions wait that the controller has not seen.
        worker: this worker's name, when the run has several.
        strict: raise instead of falling back. For tests.
        http: a transport for httpx, for tests.

    Raises:
        UnknownPolicyError: the spec names a policy that is not there, or its parameters do not fit.

    Example:
        >>> from dcao_proto import Hyperparameters, Observation, PolicyChoice, RunSpec
        >>> spec = RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1), policy=PolicyChoice(name="constant"))
        >>> session = Session(spec, run="doctest", journal_dir=Path("/dev/null/nowhere"))
        >>> session.decide(Observation(step=0, rho=3.0, gamma=1.0)).lr
        0.1
        >>> session.close()
    """

    def __init__(
        self,
        spec: RunSpec,
        *,
        run: str | None = None,
        project: str | None = None,
        url: str | None = None,
        api_key: str | None = None,
        deadline: float | None = None,
        journal_dir: Path | str | None = None,
        worker: str | None = None,
        strict: bool = False,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        given = {
            "run": run, "project": project, "url": url, "api_key": api_key,
            "deadline": deadline, "journal_dir": journal_dir,
        }  # fmt: skip
        self.settings = ClientSettings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]  # pydantic validates
        self.spec = spec
        self.project = self.settings.project
        self.run = self.settings.run or f"run-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self.stats = SessionStats()
        self._worker = worker
        self._strict = strict
        self._bound = bind(spec)
        self._lock = threading.Lock()
        self._lineage = Lineage(self._bound)
        header = JournalHeader(project=self.project, run=self.run, spec=spec)
        self._journal = Journal(self.settings.journal_dir, header)
        self._courier: Courier | None = None
        self._pid = os.getpid()
        if self.settings.url is not None:
            self._courier = Courier(
                Transport(self.settings.url, self.settings.read_api_key, http=http),
                (self.project, self.run),
                self._lineage,
                self._lock,
                joins=spec.workers > 1,
                on_drained=self._journal.discard,
            )
        atexit.register(self.close)

    # -- deciding ---------------------------------------------------------------------------------------------------

    def decide(self, observation: Observation) -> Decision:
        """The decision for an observation; the session fills in attempt, worker, state and version.

        Args:
            observation: measured at this step.

        Returns:
            The controller's decision if it came within the deadline, else the same decision made here. With several
            workers it may be `pending`: ask again at the next step, with the same observation.

        Raises:
            UnreachableError, RefusedError: only if the session is strict.
        """
        started = time.perf_counter()
        with self._lock:
            observation = self._lineage.stamp(observation.model_copy(update={"worker": self._worker}))
        decision = self._ask(observation)
        if decision is None:
            decision = self._decide_here(observation)
        waited = time.perf_counter() - started
        self.stats.decisions += 1
        self.stats.waited += waited
        self.stats.longest_wait = max(self.stats.longest_wait, waited)
        return decision

    def _ask(self, observation: Observation) -> Decision | None:
        """The controller's decision, or None if it must be made here."""
        courier = self._courier
        if courier is None or os.getpid() != self._pid:  # a forked child has no courier thread
            return None
        try:
            if not courier.reachable:
                raise courier.refused or UnreachableError("decisions are waiting to be delivered")
            deadline = self.settings.deadline
            decision = courier.ask(observation, deadline - min(RESERVE, deadline / 10))
        except (UnreachableError, RefusedError):
            if self._strict:
                raise
            return None
        if decision.regime == "pending":
            return decision
        with self._lock:
            entry = self._lineage.advance(observation, decision)
            if decision.persisted:
                self._lineage.acknowledge([entry])
            else:
                self._journal.append(entry)
                courier.enqueue(entry)
        return decision

    def _decide_here(self, observation: Observation) -> Decision:
        decision = self._bound.decide_from_token(observation)
        with self._lock:
            entry = self._lineage.advance(observation, decision)
            if os.getpid() == self._pid:
                self._journal.append(entry)
                if self._courier is not None:
                    self._courier.enqueue(entry)
        self.stats.in_process += 1
        return decision

    @property
    def last(self) -> Decision | None:
        """The newest decision."""
        return self._lineage.last

    @property
    def attempt(self) -> int:
        """Attempt of the run that this session writes; provisional until the controller has answered."""
        return self._lineage.attempt

    @property
    def online(self) -> bool:
        """Whether the next decision would be asked of the controller."""
        return self._courier is not None and self._courier.reachable

    @property
    def journal_path(self) -> Path | None:
        """The file in which decisions wait, if there are any."""
        return self._journal.path

    # -- checkpoints and the end ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs so that a resumed run goes on exactly. Plain values, no tensors."""
        with self._lock:
            return {"project": self.project, "run": self.run, **self._lineage.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint as a new attempt of the run, which fences off the attempt before it.

        Raises:
            DcaoError: the checkpoint is of another run or specification.
        """
        if (state["project"], state["run"]) != (self.project, self.run):
            raise DcaoError(
                f"the checkpoint is of run {state['project']}/{state['run']}, this session is {self.project}/"
                f"{self.run}; open the session with the checkpoint's names"
            )
        with self._lock:
            if self._courier is not None:
                self._courier.restart()
            self._lineage.load_state_dict(state)

    def finish(self, reason: str | None = None, *, timeout: float = 2.0) -> None:
        """Says that the run ended well, and closes. Bounded by `timeout` seconds."""
        self._end(FINISH, reason, timeout)

    def fail(self, reason: str | None = None, *, timeout: float = 2.0) -> None:
        """Says that the run failed, and closes. Bounded by `timeout` seconds."""
        self._end(FAIL, reason, timeout)

    def _end(self, path: str, reason: str | None, timeout: float) -> None:
        if self._courier is not None and os.getpid() == self._pid:
            self._courier.end(path, RunEnd(reason=None if reason is None else reason[:128]).wire_json())
        self.close(timeout)

    def flush(self, timeout: float) -> bool:
        """Waits until the controller has every decision; False if it has not after `timeout` seconds."""
        return self._courier is None or self._courier.wait_drained(timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Delivers what it can within `timeout` seconds; what is left stays in the journal. May be called again."""
        atexit.unregister(self.close)
        courier, self._courier = self._courier, None
        if courier is not None and os.getpid() == self._pid:
            courier.close(timeout)
            if courier.backlog:
                log.warning("%d decisions wait in %s; dcao sync sends them", len(courier.backlog), self._journal.path)
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.fail(f"{type(error).__name__}: {error}")
