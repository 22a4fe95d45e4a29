"""The courier: the one thread that talks to the controller, so that training never waits longer than it says.

While the controller answers, a decision is one POST. After a failure, decisions are made in-process and queue up here;
the courier tries to deliver them in the background, oldest first, and only behind them do decisions go over the wire
again. That keeps the history in order of step and complete.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from dcao_client.backlog import backfill_body, merged
from dcao_client.errors import RefusedError, UnreachableError
from dcao_client.lineage import Lineage
from dcao_client.patience import Patience
from dcao_client.transport import Transport
from dcao_proto import (
    Attempt,
    BackfillResult,
    Decision,
    JournalEntry,
    Observation,
    Run,
)
from dcao_proto.paths import ATTEMPTS, BACKFILL, DECISIONS, HEALED_AFTER_HEADER, RUN

log = logging.getLogger("dcao")

CHUNK = 200  # entries a backfill call: well below the protocol's 1,000 and a megabyte
BACKGROUND_TIMEOUT = 5.0  # s; nobody waits for it
ENDED = ("finished", "failed")
# Refusals that time, a new key or a backfill mends; every other is for good.
MENDABLE = ("run-not-found", "unauthenticated", "forbidden", "stale-step", "not-found", "unexpected-answer")


class Request:
    """A question that a training thread waits for; whoever comes too late finds it abandoned."""

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.answer: Decision | None = None
        self.error: Exception | None = None
        self.done = threading.Event()


class Courier:
    """Delivers observations and backlog for one session.

    Args:
        transport: to the controller; used by the courier's thread only.
        names: project and run.
        lineage: the session's; guarded by `lock`.
        lock: the session's.
        joins: whether other workers share the run, so that an existing run is joined rather than begun anew.
        on_drained: called, with the lock held, when the backlog has been delivered.
    """

    def __init__(
        self,
        transport: Transport,
        names: tuple[str, str],
        lineage: Lineage,
        lock: threading.Lock,
        *,
        joins: bool,
        on_drained: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._paths = {"project": names[0], "run": names[1]}
        self._lineage = lineage
        self._lock = lock
        self._joins = joins
        self._on_drained = on_drained
        self.backlog: deque[JournalEntry] = deque(maxlen=100_000)
        self.refused: RefusedError | None = None  # for good: fenced, or another run has the name
        self._registered = False
        self._suspicious = False  # something went wrong: what the store acknowledged may be lost
        self._recovering = False  # what may be lost is in the backlog again
        self._beyond_recovery = 0  # decisions that the store lacks and that we cannot give it
        self._ending: tuple[str, bytes] | None = None
        self._patience = Patience()
        self._request: Request | None = None
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="dcao-courier", daemon=True)
        self._thread.start()

    # -- the training thread's side ---------------------------------------------------------------------------------

    @property
    def reachable(self) -> bool:
        """Whether a decision would go over the wire now: nothing waits, or so little that it is delivered on the way.

        A run that decides often would otherwise add to the backlog while it is delivered, and never come back.
        """
        few = not self.backlog or (self._patience.failures == 0 and len(self.backlog) <= CHUNK)
        return self.refused is None and few and self._patience.over

    def ask(self, observation: Observation, deadline: float) -> Decision:
        """The controller's decision, or an exception, within the deadline.

        Raises:
            UnreachableError: not within the deadline, or not reachable at all.
            RefusedError: the controller said no.
        """
        request = Request(observation)
        with self._wake:
            if self._request is not None:  # the last one, which was given up, is still under way
                raise UnreachableError("the previous request has not been answered yet")
            self._request = request
            self._wake.notify()
        if not request.done.wait(deadline):
            self._back_off(UnreachableError(f"no answer within {deadline:.3g} s"))
            raise UnreachableError(f"no answer within {deadline:.3g} s")
        if request.error is not None:
            raise request.error
        assert request.answer is not None  # noqa: S101
        return request.answer

    def enqueue(self, entry: JournalEntry) -> None:
        """Adds a decision that was made in-process; call it with the session's lock held."""
        if self.refused is None:
            self.backlog.append(entry)
            self._suspicious = True
            with self._wake:
                self._wake.notify()

    def end(self, path: str, body: bytes) -> None:
        """Posts the end of the run when everything before it has been delivered."""
        with self._wake:
            self._ending = (path, body)
            self._wake.notify()

    def restart(self) -> None:
        """The session is about to go back to a checkpoint, as a new attempt; call it with the session's lock held."""
        if not self._lineage.confirmed:  # they have no attempt of their own; the journal file keeps them
            self.backlog.clear()
        self._registered = False

    def wait_drained(self, timeout: float) -> bool:
        """Waits until the backlog has been delivered."""
        end = time.monotonic() + timeout
        while self._owes() and time.monotonic() < end:
            time.sleep(0.005)
        return not self._owes()

    def close(self, timeout: float) -> None:
        """Delivers what it can within the time, then stops."""
        end = time.monotonic() + timeout
        self.wait_drained(timeout)
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(max(end - time.monotonic(), 0.1))

    # -- the courier's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                if not (self._closing or self._request or self._due()):
                    self._wake.wait(self._pause())  # one wait: what wakes it may also change how long to pause
                if self._closing:
                    break
                request = self._request
            if request is not None:
                self._serve(request)
                with self._wake:
                    self._request = None
            elif self._due():
                self._deliver()
        self._transport.close()

    def _owes(self) -> bool:
        return (bool(self.backlog) or self._ending is not None or self._suspicious) and self.refused is None

    def _due(self) -> bool:
        return self._owes() and self._patience.over

    def _pause(self) -> float | None:
        return self._patience.left if self._owes() else None

    def _serve(self, request: Request) -> None:
        try:
            while self.backlog:  # in the history they come before this one
                if self._needs_registration():
                    self._register()
                self._deliver_chunk()
            request.answer = self._ask(request.observation)
            self._patience.succeeded()
        except (UnreachableError, RefusedError) as error:
            self._note(error)
            request.error = error
        except Exception as error:  # noqa: BLE001  (a surprise here must not end the thread nor the training)
            log.warning("the controller's answer could not be read: %r", error)
            self._back_off(UnreachableError(repr(error)))
            request.error = UnreachableError(repr(error))
        request.done.set()

    def _ask(self, observation: Observation) -> Decision:
        if not self._registered:
            self._register()
        with self._lock:
            body = observation.model_copy(update={"attempt": self._lineage.attempt}).wire_json()
        reply = self._transport.send("POST", DECISIONS.format(**self._paths), body, timeout=BACKGROUND_TIMEOUT)
        decision = Decision.model_validate_json(reply.body)
        if decision.step != observation.step:  # a confused proxy; never to be applied
            raise UnreachableError(f"asked about step {observation.step}, got an answer about {decision.step}")
        healed_after = reply.headers.get(HEALED_AFTER_HEADER)
        if healed_after is not None:
            self._recover(int(healed_after), before=observation.step)
        return decision

    def _register(self) -> None:
        """Declares the run and makes sure that the attempt is ours; learns what the store still has."""
        lineage = self._lineage
        body = lineage.bound.spec.wire_json()
        reply = self._transport.send("PUT", RUN.format(**self._paths), body, timeout=BACKGROUND_TIMEOUT)
        run = Run.model_validate_json(reply.body)
        used = run.version > 0 or run.attempt > 1 or run.last_step is not None or run.status in ENDED
        if lineage.confirmed and run.attempt > lineage.attempt:
            raise RefusedError("fenced", 409, f"attempt {run.attempt} owns the run, this is {lineage.attempt}")
        if lineage.confirmed and run.attempt < lineage.attempt:  # the store lost the run; it gets what is left of it
            attempt, missing = self._take_attempt(lineage.attempt), True
        elif not lineage.confirmed and (lineage.resumed or (used and not self._joins)):
            attempt, missing = self._take_attempt(None), True
        else:
            attempt, missing = run.attempt, self._misses(run)
        with self._lock:
            lineage.attempt, lineage.confirmed = attempt, True
            self._suspicious = False
            if missing:
                self._put_back(lineage.ring.values())
        self._registered = True

    def _take_attempt(self, number: int | None) -> int:
        path, request = ATTEMPTS.format(**self._paths), self._lineage.origin.model_copy(update={"attempt": number})
        reply = self._transport.send("POST", path, request.wire_json(), timeout=BACKGROUND_TIMEOUT)
        return Attempt.model_validate_json(reply.body).attempt

    def _deliver(self) -> None:
        """One chunk of the backlog, or the end of the run behind it."""
        try:
            if self._needs_registration():
                self._register()
            if self.backlog:
                self._deliver_chunk()
            elif self._ending is not None:
                path, body = self._ending
                self._transport.send("POST", path.format(**self._paths), body, timeout=BACKGROUND_TIMEOUT)
                self._ending = None
            self._patience.succeeded()
        except (UnreachableError, RefusedError) as error:
            self._note(error)
        except Exception as error:  # noqa: BLE001  (see _serve)
            log.warning("the backlog could not be delivered: %r", error)
            self._back_off(UnreachableError(repr(error)))

    def _needs_registration(self) -> bool:
        """Decisions of an attempt before a rollback go first; the next attempt would fence them off."""
        with self._lock:
            of_older_attempt = bool(self.backlog) and self.backlog[0].decision.attempt < self._lineage.attempt
        unsure = self._suspicious and not self._recovering
        return not of_older_attempt and (not self._registered or unsure)

    def _deliver_chunk(self) -> None:
        with self._lock:
            older = self.backlog[0].decision.attempt < self._lineage.attempt and not self._lineage.confirmed
            attempt = self.backlog[0].decision.attempt if older else self._lineage.attempt
            chunk = [e for e in islice(self.backlog, CHUNK) if not older or e.decision.attempt == attempt]
        body = backfill_body(chunk, attempt)
        reply = self._transport.send("POST", BACKFILL.format(**self._paths), body, timeout=BACKGROUND_TIMEOUT)
        result = BackfillResult.model_validate_json(reply.body)
        if result.fenced:
            raise RefusedError("fenced", 409, f"attempt {attempt} no longer owns the run")
        with self._lock:
            for _ in chunk:
                self.backlog.popleft()
            self._lineage.acknowledge(chunk)
            if not self.backlog:
                self._recovering = False
                log.info("the controller has every decision again")
                self._on_drained()

    def _recover(self, healed_after: int, *, before: int) -> None:
        """The store lost decisions that it had acknowledged: sends those of the ring again."""
        with self._lock:
            lost = [e for e in self._lineage.ring.values() if healed_after < e.observation.step < before]
            self._put_back(lost)
        log.warning("the controller's store lost %d decisions; sending them again", len(lost))

    def _misses(self, run: Run) -> bool:
        """Whether the store lacks something that it acknowledged: its newest step is not the newest that we know of, or
        it holds fewer decisions than were made. What it trimmed, or lost too long ago, is asked about once."""
        with self._lock:
            newest = max((entry.observation.step for entry in self._lineage.ring.values()), default=-1)
        lacking = run.version - (self._lineage.origin.version or 0) - run.decisions
        more, self._beyond_recovery = lacking > self._beyond_recovery, max(lacking, 0)
        return more or newest > (-1 if run.last_step is None else run.last_step)

    def _put_back(self, entries: Iterable[JournalEntry]) -> None:
        """Adds acknowledged entries to the backlog again, each once and in order. The lock is held."""
        together = merged(entries, self.backlog)
        self.backlog.clear()
        self.backlog.extend(together)
        # Whether it helped is asked when they are delivered, and not before: until then they are the oldest again.
        self._recovering = bool(self.backlog)
        self._suspicious = self._recovering

    def _note(self, error: UnreachableError | RefusedError) -> None:
        if isinstance(error, RefusedError) and error.slug not in MENDABLE:
            self.refused = error
            log.warning("the controller refused for good (%s); deciding in-process from here on", error)
            return
        if isinstance(error, RefusedError) and error.slug == "run-not-found":
            self._registered = False
        self._back_off(error)

    def _back_off(self, error: UnreachableError | RefusedError) -> None:
        if self._patience.failures == 0:
            log.warning("the controller cannot be reached (%s); deciding in-process until it can", error)
        self._suspicious = True
        self._patience.failed(error.retry_after if isinstance(error, UnreachableError) else None)
