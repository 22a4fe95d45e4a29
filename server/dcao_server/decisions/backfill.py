"""A client's journal comes home: stored as it was applied, checked against what the policy would have decided."""

import time
from collections.abc import Callable, Iterator
from itertools import groupby

from dcao_proto import BackfillRequest, BackfillResult, Decision, JournalEntry, Observation, ProblemError, ProblemKind
from dcao_proto.policy import InvalidTokenError, PolicyState
from dcao_proto.policy.registry import BoundPolicy
from dcao_server.decisions.basis import stored_basis
from dcao_server.history.codec import encode
from dcao_server.metrics import Metrics
from dcao_server.metrics.labels import known_reasons
from dcao_server.runs.identity import bound_from, check_version, digest_of, other_specification
from dcao_server.runs.service import not_found
from dcao_server.store.contract import Backfill, BackfillOutcome, Creation, HistoryStore, Outcome, RunKey
from dcao_server.store.keys import MAX_REWRITE
from dcao_server.turns import Turn

_NOT_COMPARED = {"replayed", "persisted", "state", "causes"}
"""What a client's copy of a decision may have otherwise: how it was delivered, and why, which no journal says. The
state is compared by itself."""


class BackfillService:
    """Takes journals.

    Args:
        store: keeps the entries.
        metrics: counts them.
        clock: seconds since the epoch.
    """

    def __init__(self, store: HistoryStore, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock

    async def backfill(self, key: RunKey, request: BackfillRequest) -> BackfillResult:
        """What became of the entries.

        Raises:
            ProblemError: invalid, if they are not in order; invalid-state; run-not-found; stale-step, if the history
                holds too many newer records to put these below them.
        """
        _check_order(request.entries)
        policy = await self._policy(key, request)
        deviating: list[int] = []
        stored = replayed = refused = version = 0
        last_step: int | None = None
        for attempt, group in groupby(request.entries, key=lambda entry: entry.decision.attempt):
            entries = tuple(group)
            payloads, deviates, newest = await self._recomputed(policy, entries)
            batch = Backfill(
                attempt,
                digest_of(policy.spec_segment),
                payloads,
                entries[-1].decision.version,
                newest,
                self._clock(),
            )
            result = await self._write(key, policy, entries, batch)
            self._tally(key, result, entries)
            stored += result.stored
            replayed += result.replayed
            if result.outcome is Outcome.FENCED:
                refused += len(entries)
                continue
            deviating.extend(deviates)
            version, last_step = result.version, result.last_step
        self._metrics.backfilled(stored=stored, replayed=replayed, fenced=refused)
        if refused == len(request.entries):
            head = await self._store.get(key)
            version, last_step = (head.version, head.last_step) if head is not None else (0, None)
        return BackfillResult(
            stored=stored,
            replayed=replayed,
            fenced=refused,
            deviating=tuple(deviating),
            version=version,
            last_step=last_step,
        )

    def _tally(self, key: RunKey, result: BackfillOutcome, entries: tuple[JournalEntry, ...]) -> None:
        """Counts for the run; the reasons only if all entries were new, since a repeated call brings the same ones."""
        fresh = result.stored == len(entries)
        names = ["backfilled"] * result.stored + ["replayed"] * result.replayed
        if result.outcome is Outcome.FENCED:
            names = ["fenced"] * len(entries)
        self._store.tally(
            key, [*names, *(known_reasons(r for entry in entries for r in entry.decision.reasons) if fresh else ())]
        )

    async def _policy(self, key: RunKey, request: BackfillRequest) -> BoundPolicy:
        """The run's policy, from the store or, if that has lost the run, from the journal's tokens."""
        with self._metrics.store_call("head"):
            head = await self._store.head(key)
        if head is not None:
            return stored_basis(key, head.state, head.version).policy
        token = next((entry.decision.state for entry in request.entries if entry.decision.state is not None), None)
        if token is None:
            raise not_found(key)
        policy = bound_from(token)
        first = request.entries[0].decision
        # The version before the first entry; the entries themselves lead on from there.
        creation = Creation(
            policy.spec_segment,
            digest_of(policy.spec_segment),
            request.entries[0].observation.state or policy.initial_token(),
            self._clock(),
            max(first.attempt, 1),
            max(first.version - 1, 0),
        )
        if await self._store.create(key, creation, restore=True) is None:
            raise not_found(key)
        return policy

    async def _recomputed(
        self, policy: BoundPolicy, entries: tuple[JournalEntry, ...]
    ) -> tuple[tuple[tuple[int, bytes], ...], list[int], str]:
        """Payloads by step, steps that deviate, and the token after the last entry."""
        now = self._clock()
        payloads: list[tuple[int, bytes]] = []
        deviating: list[int] = []
        before: Decision | None = None
        newest = policy.initial_token()
        turn = Turn()
        for entry in entries:
            await turn.breathe()
            own = _own_decision(policy, entry, before)
            deviates = _differs(own, entry.decision)
            if deviates:
                deviating.append(entry.decision.step)
            applied = entry.decision
            if not deviates:  # what decides alike has the same causes
                applied = applied.model_copy(update={"causes": own.causes})
            payload = encode(entry.observation, applied, now, backfilled=True, deviates=deviates)
            payloads.append((entry.decision.step, payload))
            newest = _token_after(policy, entry, own)
            before = entry.decision.model_copy(update={"state": newest})
        return tuple(payloads), deviating, newest

    async def _write(
        self, key: RunKey, policy: BoundPolicy, entries: tuple[JournalEntry, ...], batch: Backfill
    ) -> BackfillOutcome:
        with self._metrics.store_call("backfill"):
            result = await self._store.backfill(key, batch)
        match result.outcome:
            case Outcome.MISSING:
                raise not_found(key)
            case Outcome.OTHER_SPEC:
                raise other_specification()
            case Outcome.STALE:
                raise ProblemError(
                    ProblemKind.STALE_STEP,
                    f"expected at most {MAX_REWRITE} records newer than step {entries[0].decision.step}, got more; "
                    "entries so old cannot be put into the history any more",
                )
            case _:
                return result


def _check_order(entries: tuple[JournalEntry, ...]) -> None:
    before = (-1, -1)
    check_version(max(entry.decision.version for entry in entries))
    for index, (observation, decision) in enumerate(_pairs(entries)):
        place = (decision.attempt, decision.step)
        if (observation.attempt, observation.step) != place:
            raise ProblemError(
                ProblemKind.INVALID,
                f"expected observation and decision of one attempt and step in entry {index}, got attempt "
                f"{observation.attempt} step {observation.step} and attempt {decision.attempt} step {decision.step}",
            )
        if place <= before:
            raise ProblemError(
                ProblemKind.INVALID,
                f"expected entries in order of attempt and step, got attempt {place[0]} step {place[1]} in entry "
                f"{index} after attempt {before[0]} step {before[1]}; sort them and send each step once",
            )
        before = place


def _pairs(entries: tuple[JournalEntry, ...]) -> Iterator[tuple[Observation, Decision]]:
    return ((entry.observation, entry.decision) for entry in entries)


def _own_decision(policy: BoundPolicy, entry: JournalEntry, before: Decision | None) -> Decision:
    """What this controller's policy decides from where the client stood.

    From the echoed token, else from the entry before, else from the start of the run.
    """
    observation = entry.observation
    state, version = observation.state, observation.version
    if state is None and before is not None:
        state, version = before.state, before.version
    try:
        known = PolicyState() if state is None else policy.state_of(state)
    except InvalidTokenError as error:
        raise ProblemError(ProblemKind.INVALID_STATE, str(error)) from error
    return policy.decide(observation, known, version or 0)


def _differs(own: Decision, applied: Decision) -> bool:
    """Whether the decisions set anything apart, bit for bit; the state after counts if the client kept it."""
    if applied.state is not None and applied.state != own.state:
        return True
    return own.model_dump(exclude=_NOT_COMPARED) != applied.model_dump(exclude=_NOT_COMPARED)


def _token_after(policy: BoundPolicy, entry: JournalEntry, own: Decision) -> str:
    """The token to go on from: the client's, if it is one of this run."""
    token = entry.decision.state
    if token is None:
        assert own.state is not None  # noqa: S101  (policies always give one)
        return own.state
    try:
        policy.state_of(token)
    except InvalidTokenError as error:
        raise ProblemError(ProblemKind.INVALID_STATE, str(error)) from error
    return token
