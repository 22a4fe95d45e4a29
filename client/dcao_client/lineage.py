"""Where a run stands: attempt, state token, version, and the decisions of late that the controller may have lost."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dcao_client.checkpoint import SessionState
from dcao_client.errors import DcaoError
from dcao_proto import AttemptRequest, Decision, JournalEntry, Multipliers, Observation
from dcao_proto.message import MAX_ATTEMPT
from dcao_proto.observation import MAX_TOKEN_LENGTH
from dcao_proto.policy import BoundPolicy, InvalidTokenError, PolicyState
from dcao_proto.policy.compose import compose
from dcao_proto.policy.draft import Draft
from dcao_proto.reach import beyond, reach_of

# A replica of the store that takes over may lack the last second or so of acknowledged writes. At one decision every
# few seconds 256 cover a quarter of an hour.
RING = 256
RECENT = 256  # decisions kept to answer a step again as it was answered


def without_causes(decision: Decision) -> Decision:
    """What a journal or a checkpoint keeps: an older version reads it too, and the law gives the causes again."""
    return decision if decision.causes is None else decision.model_copy(update={"causes": None})


@dataclass
class Lineage:
    """Mutable position of one session in its run. The session's lock guards it."""

    bound: BoundPolicy
    attempt: int = 1
    confirmed: bool = False  # the controller has said that the attempt is ours
    resumed: bool = False  # the attempt continues a checkpoint
    token: str = ""
    version: int = 0
    passed: int = 0  # decisions used since, whose state was not taken
    last: Decision | None = None
    own: PolicyState = field(default_factory=PolicyState)  # what the law alone has come to, whatever was answered
    ring: dict[tuple[int, int], JournalEntry] = field(default_factory=dict)  # by attempt and step, the newest `RING`
    recent: dict[int, Decision] = field(default_factory=dict)  # by step, the newest `RECENT` of this attempt

    def __post_init__(self) -> None:
        self.token = self.bound.initial_token()
        self.origin = AttemptRequest(state=self.token, version=0)  # what an attempt of ours starts from

    def stamp(self, observation: Observation) -> Observation:
        """The observation with the attempt, state token and version that belong to it."""
        update = {"attempt": self.attempt, "state": self.token, "version": self.version}
        return observation.model_copy(update=update)

    def advance(self, observation: Observation, decision: Decision) -> JournalEntry:
        """Takes a decision as the newest of the run. Its token is one that can be read, or none."""
        if decision.state is not None:
            self.token, self.version, self.passed = decision.state, decision.version, 0
        else:
            self.passed += 1
        with contextlib.suppress(Exception):  # a plug-in's; it leaves what it had come to
            self.own = self.bound.advance(observation, self.own, 0)[1]
        self.last = decision
        self.recent[decision.step] = decision
        if len(self.recent) > RECENT:
            del self.recent[next(iter(self.recent))]
        # Registering may have given the attempt another number since the observation was stamped.
        observation = observation.model_copy(update={"attempt": decision.attempt})
        return JournalEntry.model_construct(observation=observation, decision=without_causes(decision))

    def readable(self, decision: Decision) -> bool:
        """Whether this client could decide from the decision's state; a decision without one leaves ours as it is."""
        if decision.state is None:
            return True
        if len(decision.state) > MAX_TOKEN_LENGTH:
            return False
        try:
            self.bound.state_of(decision.state)
        except InvalidTokenError:
            return False
        return True

    def law(self, observation: Observation) -> Decision | None:
        """What the law gives for an observation after those of this client; no answer has a part in it. None if it
        gives nothing: it is a plug-in's and raised."""
        try:
            return self.bound.decide(observation, self.own, 0)
        except Exception:  # noqa: BLE001
            return None

    def outruns(self, observation: Observation, decision: Decision) -> str | None:
        """Whether a decision's version counts more decisions than there were: how, or None.

        Echoed, it would be ahead of every store's, whose controller would take nothing of this run any more. Of several
        workers each knows of its own decisions only; what they all made is at most one a step.
        """
        alone = self.bound.spec.workers == 1
        most = (observation.version or 0) + 1 + (self.passed if alone else observation.step)
        if decision.version <= most:
            return None
        return f"expected at most {most}, for as many decisions were made, got {decision.version}"

    def leads_astray(self, observation: Observation, law: Decision, decision: Decision) -> str | None:
        """Whether the law, from a decision's state, would go further from its way than any answer may: how, or None.

        One more step on the same observation at most doubles the distance.
        """
        if decision.state is None:
            return None
        spec = self.bound.spec
        try:
            then = self.bound.decide(observation, self.bound.state_of(decision.state), 0)
        except Exception as error:  # noqa: BLE001  (see law)
            return f"expected a decision, got {type(error).__name__}"
        return beyond(spec, law, then, reach_of(spec) ** 2)

    def decide(self, observation: Observation) -> Decision:
        """The decision, made here. A step that was decided keeps its decision, as it would with the controller."""
        known = self.recent.get(observation.step)
        if known is not None:
            return known.model_copy(update={"attempt": self.attempt, "replayed": True})
        try:
            return self.bound.decide_from_token(observation)
        except InvalidTokenError:  # cannot be: what is not readable is not taken
            return self.bound.decide(observation, PolicyState(), observation.version or 0)

    def hold(self, observation: Observation) -> Decision:
        """The values in force, when even the law failed: the last factors on the base of now, within the bounds."""
        factors = self.last.multipliers if self.last is not None else Multipliers()
        ceiling = self.last.ceiling if self.last is not None else None
        draft = Draft(factors, reasons=["held:unavailable"], regime="held", literal_momentum=True, ceiling=ceiling)
        label = self.bound.policy.label
        return compose(
            self.bound.spec, observation, draft, policy=label, state=self.token, version=self.version
        ).model_copy(update={"attempt": self.attempt})

    def acknowledge(self, entries: Iterable[JournalEntry]) -> None:
        """Keeps what the controller says is in its history, in case its store loses it again."""
        for entry in entries:
            self.ring[entry.decision.attempt, entry.decision.step] = entry
        while len(self.ring) > RING:
            del self.ring[min(self.ring)]

    def state_dict(self) -> dict[str, Any]:
        """Everything that a restart needs to go on exactly, as plain values."""
        return {
            "attempt": self.attempt,
            "token": self.token,
            "version": self.version,
            "last": None if self.last is None else without_causes(self.last).wire(),
        }

    def go_on_from(self, saved: SessionState) -> None:
        """Continues from a checkpoint, as a new attempt.

        Raises:
            DcaoError: the checkpoint belongs to a run with another specification.
        """
        try:
            self.own = self.bound.state_of(saved.token)
        except ValueError as error:
            raise DcaoError(f"the checkpoint does not fit this session: {error}") from error
        self.token, self.version, self.passed = saved.token, saved.version, 0
        self.last = saved.last
        self.origin = AttemptRequest(step=self.last.step if self.last else None, state=self.token, version=self.version)
        # A number of our own until the controller has given one.
        self.attempt = min(max(saved.attempt, self.attempt) + 1, MAX_ATTEMPT)
        self.confirmed, self.resumed = False, True
        self.ring.clear()
        self.recent.clear()
