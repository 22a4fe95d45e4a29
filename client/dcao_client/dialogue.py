"""What is said to a controller about one run, and what of its answers is believed."""

from collections.abc import Sequence
from typing import TypeVar

from dcao_client.backlog import backfill_body
from dcao_client.errors import AnswerError, RefusedError
from dcao_client.transport import Transport
from dcao_proto import Attempt, AttemptRequest, BackfillResult, Decision, JournalEntry, Observation, Run, RunSpec
from dcao_proto.judge import judge
from dcao_proto.message import MAX_ATTEMPT, Message
from dcao_proto.paths import ATTEMPTS, BACKFILL, DECISIONS, HEALED_AFTER_HEADER, RUN
from dcao_proto.reading import UnreadableAnswerError, read_answer

TIMEOUT = 5.0  # s for one request; nobody waits for it

M = TypeVar("M", bound=Message)


class Dialogue:
    """Requests about one run. Blocking; for one thread.

    Every method raises UnreachableError, AnswerError or RefusedError, as `Transport.send` does.

    Args:
        transport: to the controller.
        names: project and run, as on the wire.
    """

    def __init__(self, transport: Transport, names: tuple[str, str]) -> None:
        self._transport = transport
        self._paths = {"project": names[0], "run": names[1]}

    def declare(self, spec: RunSpec) -> Run:
        """Creates the run or finds it."""
        reply = self._transport.send("PUT", self._path(RUN), spec.wire_json(), timeout=TIMEOUT)
        run = _read(Run, reply.body)
        if (run.project, run.run) != (self._paths["project"], self._paths["run"]):
            raise AnswerError("run", "expected an answer about this run, got one about another")
        _check_attempt(run.attempt)
        return run

    def take_attempt(self, origin: AttemptRequest, number: int | None) -> int:
        """The attempt that is ours from now on; `number` if one is wanted."""
        body = origin.model_copy(update={"attempt": number}).wire_json()
        reply = self._transport.send("POST", self._path(ATTEMPTS), body, timeout=TIMEOUT)
        attempt = _read(Attempt, reply.body).attempt
        _check_attempt(attempt)
        return attempt

    def ask(self, spec: RunSpec, observation: Observation, law: Decision | None) -> tuple[Decision, int | None]:
        """The decision, and the newest step that the store still had, if it lost some.

        Args:
            spec: the run's.
            observation: of one step.
            law: what the law gives here for it, if it gives anything; see `judge`.
        """
        reply = self._transport.send("POST", self._path(DECISIONS), observation.wire_json(), timeout=TIMEOUT)
        decision = _read(Decision, reply.body)
        fault = judge(spec, observation, decision, law)
        if fault is not None:
            raise AnswerError(
                f"decision:{fault.partition(':')[0]}", f"the decision is none that this run allows; {fault}"
            )
        return decision, _step(reply.headers.get(HEALED_AFTER_HEADER))

    def backfill(self, chunk: Sequence[JournalEntry], attempt: int) -> None:
        """Delivers decisions that were made without the controller."""
        reply = self._transport.send("POST", self._path(BACKFILL), backfill_body(chunk, attempt), timeout=TIMEOUT)
        result = _read(BackfillResult, reply.body)
        if result.fenced:
            raise RefusedError("fenced", 409, f"attempt {attempt} no longer owns the run")
        if result.stored + result.replayed != len(chunk):
            raise AnswerError("backfill", f"expected {len(chunk)} entries to be accounted for, got another number")

    def end(self, path: str, body: bytes) -> None:
        """Says that the run has ended."""
        self._transport.send("POST", self._path(path), body, timeout=TIMEOUT)

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def _path(self, template: str) -> str:
        return template.format(**self._paths)


def _read(kind: type[M], body: bytes) -> M:
    try:
        return read_answer(kind, body)
    except UnreadableAnswerError as error:
        raise AnswerError(f"unreadable:{kind.__name__}", str(error)) from None


def _check_attempt(attempt: int) -> None:
    if not 1 <= attempt <= MAX_ATTEMPT:
        raise AnswerError("attempt", f"expected an attempt from 1 to {MAX_ATTEMPT}, got another number")


def _step(text: str | None) -> int | None:
    """A step in a header; -1 is none at all. What makes no sense is not there."""
    if text is None or len(text) > 16 or not text.removeprefix("-").isdecimal():
        return None
    return max(int(text), -1)
