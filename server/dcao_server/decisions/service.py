"""The hot path: decide from the token that the observation echoes, then let the store keep the first decision."""

import time
from collections.abc import Callable
from typing import NamedTuple

from dcao_proto import DecideRequest, Decision, Observation, ProblemError, ProblemKind
from dcao_proto.paths import HEALED_AFTER_HEADER
from dcao_proto.policy import InvalidTokenError
from dcao_server.decisions.availability import Availability
from dcao_server.decisions.basis import Basis, basis_of, remember, stored_basis
from dcao_server.decisions.together import decides_together, gathered, in_force, merged
from dcao_server.history.codec import UNREADABLE, decode, encode
from dcao_server.metrics import DecisionOutcome, Metrics
from dcao_server.metrics.labels import known_reasons
from dcao_server.runs.identity import bound, check_version, digest_of, implausible, other_specification
from dcao_server.runs.service import fenced, not_found
from dcao_server.store.contract import (
    Append,
    AppendResult,
    Creation,
    Gathering,
    HistoryStore,
    Outcome,
    RunKey,
    StoredRecord,
    StoreUnavailableError,
)
from dcao_server.store.trouble import Trouble, TroubleKind

ATTEMPTS = 8
"""Times that a decision is made anew because another writer was faster; each time that one has moved on."""
NOTHING_LEFT = -1
"""Value of the healing header when the store had no step at all: whatever the client keeps is newer."""


class Answer(NamedTuple):
    """A decision and the headers it is sent with."""

    decision: Decision
    headers: dict[str, str] | None = None


class DecisionService:
    """Answers observations.

    Args:
        store: keeps the first decision of each step.
        metrics: counts what became of them.
        clock: seconds since the epoch.
        availability: whether to ask the store at all.
    """

    def __init__(
        self,
        store: HistoryStore,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        availability: Availability | None = None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._availability = availability or Availability()

    async def decide(self, key: RunKey, observation: Observation) -> Answer:
        """The decision that stands for the observation's step, which is this one unless there was one before.

        Raises:
            ProblemError: invalid-state, run-not-found, run-ended, fenced, stale-step; store-unavailable when the
                client echoes no state, so that nothing can be decided without the store.
        """
        self._metrics.observed(observation.status)
        echoed = None
        if observation.state is not None and observation.version is not None:
            check_version(observation.version)
            echoed = basis_of(observation.state, observation.version)
        if not self._availability.worth_trying():
            return self._without_store(observation, echoed, self._metrics.condition.trouble)
        try:
            basis = await self._stored_basis(key) if echoed is None else echoed
            if decides_together(basis.policy.spec):
                answer = await self._decide_together(key, observation, basis)
            else:
                answer = await self._record(key, observation, basis)
        except StoreUnavailableError as error:
            if error.trouble.kind is TroubleKind.FOREIGN:
                self._availability.succeeded()  # the trouble of this run; the others must not be decided without it
            else:
                self._availability.failed()
            return self._without_store(observation, echoed, error.trouble)
        except ProblemError:
            self._availability.succeeded()  # a refusal is an answer
            raise
        self._availability.succeeded()
        return answer

    def simulate(self, request: DecideRequest) -> Decision:
        """The decision under a given specification; nothing is stored.

        Raises:
            ProblemError: invalid policy, invalid-state.
        """
        policy = bound(request.spec)
        try:
            return policy.decide_from_token(request.observation)
        except InvalidTokenError as error:
            raise ProblemError(ProblemKind.INVALID_STATE, str(error)) from error

    async def _stored_basis(self, key: RunKey) -> Basis:
        """The read that a client saves by echoing its state."""
        with self._metrics.store_call("head"):
            head = await self._store.head(key)
        if head is None:
            raise not_found(key)
        return stored_basis(key, head.state, head.version)

    def _decide(self, observation: Observation, basis: Basis) -> Decision:
        started = time.perf_counter()
        decision, after = basis.policy.advance(observation, basis.state, basis.version)
        if decision.state is not None:
            remember(decision.state, basis.policy, after)
        self._metrics.policy_took(time.perf_counter() - started)
        return decision

    def _without_store(self, observation: Observation, basis: Basis | None, trouble: Trouble | None) -> Answer:
        """The same decision, which the history gets from the client's journal later.

        Raises:
            ProblemError: store-unavailable, if the client echoed no state: only the store knows whether the step was
                decided before, and then the state it gave us is the one after that decision.
        """
        if basis is None:
            raise _store_needed(trouble)
        if decides_together(basis.policy.spec):
            return Answer(in_force(observation, basis.policy, basis.state, basis.version))
        decision = self._decide(observation, basis)
        self._metrics.decided("unpersisted", decision.reasons)
        return Answer(decision)

    async def _record(self, key: RunKey, observation: Observation, basis: Basis, *, restored: bool = False) -> Answer:
        """Appends the decision, or finds the one that stands. `restored`: the run has just been made anew."""
        for _ in range(ATTEMPTS):
            decision = self._decide(observation, basis)
            result = await self._append(key, observation, basis, decision)
            if result.outcome is Outcome.CONFLICT:
                basis = stored_basis(key, result.state, result.version)
            elif result.outcome is Outcome.MISSING and basis.version > 0 and not restored:
                await self._restore(key, observation, basis)
                restored = True
            elif result.outcome is Outcome.APPENDED and restored:
                return self._healed(key, decision, None)
            else:
                return self._answer(key, observation, decision, result)
        raise ProblemError(
            ProblemKind.STORE_UNAVAILABLE,
            f"expected to append the decision within {ATTEMPTS} attempts, but other writers were faster; try again",
            headers={"Retry-After": "1"},
        )

    async def _append(self, key: RunKey, observation: Observation, basis: Basis, decision: Decision) -> AppendResult:
        now = self._clock()
        assert decision.state is not None  # noqa: S101  (policies always give one)
        item = Append(
            observation.attempt,
            observation.step,
            basis.version,
            digest_of(basis.policy.spec_segment),
            encode(observation, decision, now),
            decision.state,
            now,
        )
        started = time.perf_counter()
        try:
            result = await self._store.append(key, item)
        except StoreUnavailableError as error:
            self._metrics.store_failed("append", error)
            raise
        wrote = result.outcome in (Outcome.APPENDED, Outcome.HEALED)
        self._metrics.store_took("append", time.perf_counter() - started, wrote=wrote)
        return result

    async def _restore(self, key: RunKey, observation: Observation, basis: Basis) -> None:
        """Creates anew a run that the store has lost: the token holds its specification and its state."""
        assert observation.state is not None  # noqa: S101  (a version above 0 and no run: the client echoed both)
        segment = basis.policy.spec_segment
        creation = Creation(
            segment, digest_of(segment), observation.state, self._clock(), observation.attempt, basis.version
        )
        with self._metrics.store_call("restore"):
            await self._store.create(key, creation, restore=True)

    def _answer(self, key: RunKey, observation: Observation, decision: Decision, result: AppendResult) -> Answer:
        match result.outcome:
            case Outcome.APPENDED:
                self._note(key, "decided", decision.reasons)
                return Answer(decision.model_copy(update={"persisted": True}))
            case Outcome.HEALED:
                return self._healed(key, decision, result.last_step)
            case Outcome.REPLAYED:
                return self._replayed(key, observation, result.payload, result.state, result.version)
            case outcome:
                raise self._refusal(key, observation, outcome, result.version, result.last_step)

    def _healed(self, key: RunKey, decision: Decision, last_step: int | None) -> Answer:
        self._note(key, "healed", decision.reasons)
        after = NOTHING_LEFT if last_step is None else last_step
        return Answer(decision.model_copy(update={"persisted": True}), {HEALED_AFTER_HEADER: str(after)})

    def _replayed(self, key: RunKey, observation: Observation, payload: bytes, state: str, version: int) -> Answer:
        self._note(key, "replayed")
        try:
            record = decode(StoredRecord(observation.attempt, observation.step, payload))
        except UNREADABLE as error:
            raise ProblemError(
                ProblemKind.STORE_UNAVAILABLE,
                f"expected a record of step {observation.step} that this controller can read, got one of a newer "
                "controller; try again, another replica may know it",
                headers={"Retry-After": "1"},
            ) from error
        return Answer(record.decision.model_copy(update={"replayed": True, "state": state, "version": version}))

    def _refusal(
        self, key: RunKey, observation: Observation, outcome: Outcome, version: int, last_step: int | None
    ) -> ProblemError:
        match outcome:
            case Outcome.FENCED:
                self._note(key, "fenced")
                return fenced(version)
            case Outcome.STALE:
                self._note(key, "stale")
                return ProblemError(
                    ProblemKind.STALE_STEP,
                    f"expected a step after {last_step}, the newest of attempt {observation.attempt}, got "
                    f"{observation.step}, which is not in the history; after going back to a checkpoint POST attempts",
                )
            case Outcome.IMPLAUSIBLE:
                return implausible(version)
            case Outcome.ENDED:
                return ProblemError(
                    ProblemKind.RUN_ENDED,
                    f"expected a run that goes on, got {key.run}, which has ended; POST attempts to open it again",
                )
            case Outcome.OTHER_SPEC:
                return other_specification()
            case _:
                return not_found(key)

    def _note(self, key: RunKey, outcome: DecisionOutcome, reasons: tuple[str, ...] = ()) -> None:
        """Counts an answer, for the replica and for the run."""
        self._metrics.decided(outcome, reasons)
        self._store.tally(key, (outcome, *known_reasons(reasons)))

    async def _decide_together(
        self, key: RunKey, observation: Observation, basis: Basis, *, restored: bool = False
    ) -> Answer:
        """One worker of several: adds its observation; decides if they suffice."""
        contribution = gathered(observation, basis.policy.spec, digest_of(basis.policy.spec_segment))
        with self._metrics.store_call("gather"):
            result = await self._store.gather(key, contribution)
        match result.outcome:
            case Outcome.REPLAYED:
                return self._replayed(key, observation, result.payload, result.state, result.version)
            case Outcome.PENDING:
                self._metrics.decided("pending")
                newest = _newest(key, result, basis)
                return Answer(in_force(observation, newest.policy, newest.state, newest.version))
            case Outcome.READY:
                newest = _newest(key, result, basis)
                joint = await merged(result.observations, observation, basis.policy.spec)
                return await self._record(key, joint, newest, restored=restored)
            case Outcome.MISSING if basis.version > 0 and not restored:
                await self._restore(key, observation, basis)
                return await self._decide_together(key, observation, basis, restored=True)
            case outcome:
                raise self._refusal(key, observation, outcome, result.version, result.last_step)


def _newest(key: RunKey, result: Gathering, basis: Basis) -> Basis:
    """The store's, where it is ahead of the worker."""
    return stored_basis(key, result.state, result.version) if result.version > basis.version else basis


def _store_needed(trouble: Trouble | None) -> ProblemError:
    return ProblemError(
        ProblemKind.STORE_UNAVAILABLE,
        "expected a store that answers, because the observation echoes no state, but "
        f"{trouble or 'the store cannot be reached'}. Try again, or echo state and version of the last decision, which "
        "needs no store",
        headers={"Retry-After": "1"},
    )
