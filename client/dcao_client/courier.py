"""The courier: the one thread that talks to the controller, so that training never waits longer than it says.

While the controller answers, a decision is one POST. After a failure, decisions are made in-process and queue up in
the backlog; the courier tries to deliver them in the background, oldest first, and only behind them do decisions go
over the wire again. That keeps the history in order of step and complete.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from dcao_client.backlog import CHUNK, Backlog
from dcao_client.dialogue import Dialogue
from dcao_client.errors import AnswerError, RefusedError, UnreachableError
from dcao_client.handover import Handover
from dcao_client.lineage import Lineage
from dcao_client.once import Once
from dcao_client.patience import LONGEST_PAUSE, Patience
from dcao_proto import Decision, JournalEntry, Observation

# Refusals of the run itself: asked again after minutes only. Every other is mended by time, a new key, or a backfill.
LASTING = ("fenced", "run-conflict", "run-ended")


class Request:
    """A question that a training thread waits for; whoever comes too late finds it abandoned."""

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.answer: Decision | None = None
        self.error: UnreachableError | RefusedError | None = None
        self.done = threading.Event()


class Courier:
    """Delivers observations and backlog for one session.

    Args:
        dialogue: with the controller; used by the courier's thread only.
        handover: what the controller has; used by the courier's thread, and told when the session restarts.
        lineage, backlog: the session's; guarded by the session's lock.
        once: says what must be said.
    """

    def __init__(self, dialogue: Dialogue, handover: Handover, lineage: Lineage, backlog: Backlog, once: Once) -> None:
        self._dialogue = dialogue
        self._handover = handover
        self._lineage = lineage
        self._backlog = backlog
        self._once = once
        self.refused: RefusedError | None = None  # fenced, or another run has the name
        self.disbelieved = 0  # answers that were not used
        self._ending: tuple[str, bytes] | None = None
        self._patience = Patience()
        self._request: Request | None = None
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._keep_running()

    # -- the training thread's side ---------------------------------------------------------------------------------

    @property
    def reachable(self) -> bool:
        """Whether a decision would go over the wire now: nothing waits, or so little that it is delivered on the way.

        A run that decides often would otherwise add to the backlog while it is delivered, and never come back.
        """
        waiting = len(self._backlog)
        few = not waiting or (self._patience.failures == 0 and waiting <= CHUNK)
        return few and self._patience.over

    @property
    def complete(self) -> bool:
        """Whether the controller has everything: nothing waits, and nothing was dropped or set aside."""
        return not (self._owes() or self.refused or self._backlog.dropped or self._handover.apart)

    @property
    def owes_end(self) -> bool:
        """Whether the end of the run was to be posted, is not, and still may be."""
        return self._ending is not None and self.refused is None

    def ask(self, observation: Observation, deadline: float) -> Decision:
        """The controller's decision, or an exception, within the deadline.

        Raises:
            UnreachableError: not within the deadline, or not reachable at all.
            RefusedError: the controller said no.
        """
        request = Request(observation)
        self._keep_running()
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
        self._backlog.append(entry)
        self._handover.suspicious = True
        self._keep_running()
        with self._wake:
            self._wake.notify()

    def end(self, path: str, body: bytes) -> None:
        """Posts the end of the run when everything before it has been delivered."""
        self._keep_running()
        with self._wake:
            self._ending = (path, body)
            self._wake.notify()

    def restart(self) -> None:
        """The session is about to go back to a checkpoint, as a new attempt; call it with the session's lock held."""
        if not self._lineage.confirmed:  # they have no attempt of their own; the journal file keeps them
            self._backlog.set_down()
        self._handover.registered = False

    def wait_drained(self, timeout: float) -> bool:
        """Waits until the controller has everything; whether it has."""
        end = time.monotonic() + timeout
        while self._owes() and self.refused is None and time.monotonic() < end:
            time.sleep(0.005)
        return self.complete

    def close(self, timeout: float) -> bool:
        """Delivers what it can within the time, then stops; whether the controller has everything."""
        end = time.monotonic() + timeout
        complete = self.wait_drained(timeout)
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(max(end - time.monotonic(), 0.1))
        return complete

    # -- the courier's thread ---------------------------------------------------------------------------------------

    def _keep_running(self) -> None:
        """Starts the thread, or another one if it died: of what, its own log says."""
        with self._wake:
            if self._closing or (self._thread is not None and self._thread.is_alive()):
                return
            if self._thread is not None:
                self._once.always(logging.WARNING, "the thread that talks to the controller died; starting another")
                self._abandon(UnreachableError("the thread that talks to the controller died"))
            self._thread = threading.Thread(target=self._run, name="dcao-courier", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads, or the interpreter is going down
                self._thread = None
                self._once.warn("thread", "no thread can be started; deciding in-process")

    def _abandon(self, error: UnreachableError) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.error = error
            request.done.set()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001  (a surprise here must end neither the thread nor the training)
                surprise = self._surprise(error)
                with self._wake:
                    self._abandon(surprise)
        with contextlib.suppress(Exception):
            self._dialogue.close()

    def _turn(self) -> None:
        with self._wake:
            if not (self._closing or self._request or self._due()):
                self._wake.wait(self._pause())  # one wait: what wakes it may also change how long to pause
            if self._closing:
                return
            request = self._request
        if request is not None:
            self._serve(request)
            with self._wake:
                if self._request is request:
                    self._request = None
        elif self._due():
            self._attempt(self._deliver)

    def _owes(self) -> bool:
        return bool(len(self._backlog)) or self._ending is not None or self._handover.suspicious

    def _due(self) -> bool:
        return self._owes() and self._patience.over

    def _pause(self) -> float | None:
        return self._patience.left if self._owes() else None

    def _serve(self, request: Request) -> None:
        def answer() -> None:
            request.answer = self._handover.ask(request.observation)

        request.error = self._attempt(answer)
        request.done.set()

    def _attempt(self, action: Callable[[], None]) -> UnreachableError | RefusedError | None:
        """Does it and notes how it went."""
        try:
            action()
        except (UnreachableError, RefusedError) as error:
            self._note(error)
            return error
        except Exception as error:  # noqa: BLE001  (see _run)
            return self._surprise(error)
        self._patience.succeeded()
        self.refused = None
        self._once.again("unreachable")
        return None

    def _surprise(self, error: Exception) -> UnreachableError:
        """Not its text, which may quote a secret or be very long."""
        name = type(error).__name__
        self._once.warn(f"surprise:{name}", "talking to the controller failed unexpectedly (%s)", name)
        unreachable = UnreachableError(f"unexpected {name}")
        self._back_off(unreachable)
        return unreachable

    def _deliver(self) -> None:
        """One chunk of the backlog, or the end of the run behind it."""
        self._handover.deliver()
        if not len(self._backlog) and self._ending is not None:
            self._dialogue.end(*self._ending)
            self._ending = None

    def _note(self, error: UnreachableError | RefusedError) -> None:
        if isinstance(error, AnswerError):
            self.disbelieved += 1
            self._once.warn(
                error.kind, "an answer of the controller is not used: %s; deciding in-process instead", error
            )
        self._back_off(error)
        if isinstance(error, RefusedError):
            if error.slug == "run-not-found":
                self._handover.registered = False
            if error.slug in LASTING:
                self.refused, self._handover.registered = error, False
                self._patience.failed(LONGEST_PAUSE)

    def _back_off(self, error: UnreachableError | RefusedError) -> None:
        if self._patience.failures == 0 and not isinstance(error, AnswerError):
            self._once.warn(
                "unreachable", "the controller cannot be asked (%s); deciding in-process until it can", error
            )
        self._handover.suspicious = True
        self._patience.failed(error.retry_after if isinstance(error, UnreachableError) else None)
