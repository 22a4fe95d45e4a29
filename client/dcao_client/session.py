"""The session: one run's decisions, with the controller or without it.

`decide` never raises into training, never blocks it longer than the deadline, and never needs the controller: what the
controller would answer is a pure function of what the client holds, so the client can answer itself.
"""

import atexit
import logging
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import httpx

from dcao_client.account import SessionStats, say_if_it_stands_still, say_why
from dcao_client.checkpoint import SessionState
from dcao_client.errors import DcaoError, RefusedError, UnreachableError
from dcao_client.journal import JournalEnd
from dcao_client.lineage import Lineage
from dcao_client.logged import Logged
from dcao_client.names import wire_name
from dcao_client.once import Once
from dcao_client.outbox import Outbox
from dcao_client.run_context import RunContext
from dcao_client.settings import ClientSettings
from dcao_proto import Decision, Observation, RunSpec
from dcao_proto.policy import bind

RESERVE = 0.02  # s of the deadline, a tenth of it at most, in which to decide in-process when no answer has come


class Session(RunContext):
    """Decides for one run.

    Args:
        spec: what the run is; its policy is evaluated in-process when the controller is away.
        run: name, any text up to 200 characters; from `DCAO_RUN`, or made up. `Session.run` is what it is on the wire.
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
        SettingsError: a setting does not fit, for example a URL without http://.

    Example:
        >>> from dcao_proto import Hyperparameters, Observation, PolicyChoice, RunSpec
        >>> spec = RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1), policy=PolicyChoice(name="constant"))
        >>> session = Session(spec, run="doctest", journal_dir=Path("/dev/null/nowhere"))
        >>> session.decide(Observation(step=0, rho=3.0, gamma=1.0)).lr
        0.1
        >>> session.close()
        True
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
        self.settings = ClientSettings.read(
            run=run, project=project, url=url, api_key=api_key, deadline=deadline, journal_dir=journal_dir
        )
        self.spec = spec
        self.project = wire_name(self.settings.project)
        self._named = self.settings.run is not None
        named = self.settings.run or f"run-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self.run = wire_name(named)
        self._http = http
        self.stats = SessionStats()
        self._worker = worker
        self.strict = strict
        self._once = Once()
        self._logged = Logged(self._once)
        self._bound = bind(spec)
        self._lock = threading.Lock()
        self._lineage = Lineage(self._bound)
        self._complete = True  # once it is closed: whether the controller has everything
        self._closed = False
        self._ended: JournalEnd | None = None  # what is to be said of the end, if it has come
        self._outbox = self._open()
        if self.run != named:
            self._once.always(logging.INFO, "the run is %s on the wire and in paths", self.run)
        atexit.register(self.close)

    def _open(self) -> Outbox:
        return Outbox(self.settings, (self.project, self.run), self._lineage, self._lock, self._once, self._http)

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
        started, before = time.perf_counter(), self._lineage.last
        decision = self._decide(observation)
        waited = time.perf_counter() - started
        self.stats.decisions += 1
        self.stats.waited += waited
        self.stats.longest_wait = max(self.stats.longest_wait, waited)
        say_if_it_stands_still(self._once, self.spec, observation, decision)
        say_why(decision, before)
        return decision

    def _decide(self, observation: Observation) -> Decision:
        with self._lock:
            logged = self._logged.pending()
            told = {"worker": self._worker, "metrics": logged or observation.metrics}
            observation = self._lineage.stamp(observation.model_copy(update=told))
        try:
            decision = self._ask(observation) or self._decide_here(observation)
            self._logged.told(logged, decision)
            return decision
        except (UnreachableError, RefusedError):
            raise  # the session is strict
        except Exception as error:
            if self.strict:
                raise
            # Not its text, which may hold anything.
            self._once.warn("law", "no decision could be made (%s); the values stay", type(error).__name__)
            self.stats.in_process += 1
            return self._lineage.hold(observation)

    def _ask(self, observation: Observation) -> Decision | None:
        """The controller's decision, or None if it must be made here."""
        courier = self._outbox.courier
        if courier is None:
            return None
        try:
            if not courier.reachable:
                raise courier.refused or UnreachableError("decisions are waiting to be delivered")
            deadline = self.settings.deadline
            decision = courier.ask(observation, deadline - min(RESERVE, deadline / 10))
        except (UnreachableError, RefusedError):
            if self.strict:
                raise
            return None
        finally:
            self.stats.refused_answers = courier.disbelieved
        if decision.regime == "pending":
            return decision
        with self._lock:
            entry = self._lineage.advance(observation, decision)
            if decision.persisted:
                self._lineage.acknowledge([entry])
            else:
                courier.enqueue(entry)
        return decision

    def _decide_here(self, observation: Observation) -> Decision:
        with self._lock:
            decision = self._lineage.decide(observation)
            self.stats.in_process += 1
            if decision.replayed:
                return decision
            self._outbox.keep(self._lineage.advance(observation, decision))
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
        courier = self._outbox.courier
        return courier is not None and courier.reachable

    @property
    def journal_path(self) -> Path | None:
        """The file in which decisions wait, if there are any."""
        return self._outbox.journal.path

    # -- what the user logs --------------------------------------------------------------------------------------------

    def log(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Numbers of the user's own, a validation accuracy say, kept in the history with the next decision.

        The last value of a name counts; what is logged after the last decision is kept when the run ends. Never raises:
        what does not fit is left out, which the log says once.

        Args:
            values, named: up to 16 names between two decisions, of letters, digits and `_./-`; finite numbers.
        """
        self._logged.add({**(values or {}), **named})

    # -- checkpoints and the end ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs so that a resumed run goes on exactly. Plain values, no tensors."""
        with self._lock:
            base = self.spec.base.wire()
            return {"project": self.project, "run": self.run, "base": base, **self._lineage.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint as a new attempt of the run, which fences off the attempt before it.

        A session that has decided nothing yet takes the checkpoint's run where its own name was made up, and the base
        that the run began with: a schedule has moved it since.

        Raises:
            DcaoError: the checkpoint is of another run or specification.
            CheckpointError: it is no checkpoint of a session.
        """
        saved = SessionState.read(state)
        fresh = self.last is None and saved.project == self.project
        run = saved.run if fresh and not self._named else self.run
        if (saved.project, saved.run) != (self.project, run):
            raise DcaoError(
                f"the checkpoint is of run {saved.project}/{saved.run}, this session is {self.project}/"
                f"{self.run}; open the session with the checkpoint's names"
            )
        spec = self.spec if saved.base is None or not fresh else self.spec.model_copy(update={"base": saved.base})
        if (run, spec) != (self.run, self.spec):
            self._become(run, spec)
        with self._lock:
            if self._outbox.courier is not None:
                self._outbox.courier.restart()
            self._lineage.go_on_from(saved)

    def _become(self, run: str, spec: RunSpec) -> None:
        """The session is this run's; it has decided nothing yet."""
        self._outbox.close(0.0)
        self._named = self._named or run != self.run
        self.run, self.spec, self._bound = run, spec, bind(spec)
        self._lineage = Lineage(self._bound)
        self._outbox = self._open()

    def finish(self, reason: str | None = None, *, timeout: float = 2.0, step: int | None = None) -> bool:
        """Says that the run ended well, and closes. Bounded by `timeout` seconds, never raises.

        Args:
            reason: why, for people.
            timeout: seconds.
            step: optimizer steps taken, at which stands what was logged after the last decision; the step after that
                decision's if absent.

        Returns:
            Whether the controller has every decision and knows of the end; True without a controller.
        """
        return self._end("finished", reason, timeout, step)

    def fail(self, reason: str | None = None, *, timeout: float = 2.0, step: int | None = None) -> bool:
        """Says that the run failed, and closes; otherwise like `finish`."""
        return self._end("failed", reason, timeout, step)

    def _end(self, ended: Literal["finished", "failed"], reason: str | None, timeout: float, step: int | None) -> bool:
        try:
            if not self._closed:
                if self._logged and self._outbox.ours:
                    after = 0 if self._lineage.last is None else self._lineage.last.step + 1
                    self.decide(Observation(step=max(step or 0, after), status="unavailable"))
                words = None if reason is None else str(reason)[:128]
                self._ended = JournalEnd(ended=ended, attempt=self.attempt, reason=words)
                self._outbox.end(self._ended)
        except Exception as error:  # noqa: BLE001  (the end of training is training)
            self._once.warn("end", "the end of the run could not be said (%s)", type(error).__name__)
        return self.close(timeout)

    def flush(self, timeout: float) -> bool:
        """Waits until the controller has every decision.

        Returns:
            False if it has not after `timeout` seconds, or never will: some were dropped, refused or set aside.
        """
        courier = self._outbox.courier
        return self._complete if courier is None else courier.wait_drained(timeout)

    def close(self, timeout: float = 2.0) -> bool:
        """Delivers what it can within `timeout` seconds; what is left stays in the journal. May be called again.

        Returns:
            Whether the controller has every decision; True without a controller. Never raises.
        """
        atexit.unregister(self.close)
        if self._closed:
            return self._complete
        self._closed = True
        try:
            self._complete = self._outbox.close(timeout, self._ended)
        except Exception as error:  # noqa: BLE001  (see _end)
            self._complete = False
            self._once.warn("close", "the session could not be closed in order (%s)", type(error).__name__)
        return self._complete
