"""Policies by name, built in and installed, and a policy bound to a run: the one object that decides."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from dcao_proto.decision import Decision
from dcao_proto.message import Message, successor
from dcao_proto.observation import Observation
from dcao_proto.policy.compose import compose
from dcao_proto.policy.draft import Draft
from dcao_proto.policy.reasons import SENTENCES
from dcao_proto.policy.state import PolicyState
from dcao_proto.policy.token import InvalidTokenError, decode_spec, decode_state, encode_spec, join, split
from dcao_proto.run import RunSpec

ENTRY_POINT_GROUP = "dcao.policies"
MAX_SENTENCES, MAX_SENTENCE = 64, 400
_CODE = re.compile(r"[a-z][a-z0-9-]*(:[a-z0-9_.-]+)?")


class UnknownPolicyError(LookupError):
    """No policy of that name is built in or installed, or its parameters do not fit."""


@dataclass(frozen=True)
class Policy:
    """A law: a name, a version that changes when its decisions do, its parameters, and a pure function.

    `decide(spec, state, observation, params)` returns the draft of a decision and the next state. Install one for the
    controller and the clients alike by an entry point in the group `dcao.policies` that loads to a `Policy`.

    Why it moved a value it says with `draft.because("code", number=…)`; the sentence of a code that is not in
    `reasons.py` is in `sentences`.

    Raises:
        ValueError: a sentence's code is not one, is longer than 64 characters or is a built-in one; or a sentence is
            longer than `MAX_SENTENCE` characters, or there are more than `MAX_SENTENCES`.
    """

    name: str
    version: int
    params: type[Message]
    decide: Callable[[RunSpec, PolicyState, Observation, Any], tuple[Draft, PolicyState]]
    summary: str
    follows_path: bool = False  # wants `observation.path`, and of the spectrum the sharpness only
    sentences: Mapping[str, str] = field(default_factory=dict, hash=False)  # of its own codes, as `reasons.py` has them

    def __post_init__(self) -> None:
        if len(self.sentences) > MAX_SENTENCES:
            raise ValueError(f"expected at most {MAX_SENTENCES} sentences of policy {self.name}, got more")
        for code, sentence in self.sentences.items():
            if not _CODE.fullmatch(code) or len(code) > 64 or code in SENTENCES:
                raise ValueError(f"expected a code like 'my-law:lr' that is not a built-in one, got {code[:80]!r}")
            if len(sentence) > MAX_SENTENCE:
                raise ValueError(f"expected a sentence of at most {MAX_SENTENCE} characters for {code!r}, got a longer")

    @property
    def label(self) -> str:
        """name@version, as decisions carry it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class BoundPolicy:
    """A policy under one run's specification."""

    policy: Policy
    params: Message
    spec: RunSpec
    spec_segment: str

    def decide(self, observation: Observation, state: PolicyState, version: int) -> Decision:
        """The decision for an observation. A function of its arguments: no clock, no I/O, no global.

        Args:
            observation: what was measured.
            state: the policy's memory, `PolicyState()` at first.
            version: number of decisions so far in this lineage.

        Returns:
            The decision with its new state token and `version + 1`, not yet replayed nor persisted.
        """
        return self.advance(observation, state, version)[0]

    def advance(self, observation: Observation, state: PolicyState, version: int) -> tuple[Decision, PolicyState]:
        """`decide`, and the state that its token holds, for those who would decode it next."""
        draft, after = self.policy.decide(self.spec, state, observation, self.params)
        token = join(self.spec_segment, after)
        version = successor(version)
        decision = compose(self.spec, observation, draft, policy=self.policy.label, state=token, version=version)
        return decision, after

    def decide_from_token(self, observation: Observation) -> Decision:
        """Like `decide`, from the token and version that the observation echoes; from the start if it echoes none.

        Raises:
            InvalidTokenError: the token is damaged or belongs to a run with another specification.
        """
        if observation.state is None or observation.version is None:
            return self.decide(observation, PolicyState(), 0)
        return self.decide(observation, self.state_of(observation.state), observation.version)

    def state_of(self, token: str) -> PolicyState:
        """The policy state in a token of this run.

        Raises:
            InvalidTokenError: the token is damaged or belongs to a run with another specification.
        """
        spec_segment, state_segment = split(token)
        if spec_segment != self.spec_segment:
            raise InvalidTokenError("the state token belongs to a run with another specification; leave it out")
        return decode_state(state_segment)

    def initial_token(self) -> str:
        """The token of a run that has observed nothing yet."""
        return join(self.spec_segment, PolicyState())


@lru_cache(maxsize=1)
def _registry() -> dict[str, Policy]:
    from dcao_proto.policy.presets import BUILT_IN  # the presets are written in terms of this module

    found = {policy.name: policy for policy in BUILT_IN}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        policy = entry.load()
        if not isinstance(policy, Policy):
            raise UnknownPolicyError(
                f"entry point {entry.name} in {ENTRY_POINT_GROUP} must load to a dcao_proto.policy.Policy, "
                f"got {type(policy).__name__}"
            )
        found.setdefault(policy.name, policy)  # a plug-in cannot replace a built-in law
    return found


def policies() -> list[Policy]:
    """All policies, by name."""
    return [policy for _, policy in sorted(_registry().items())]


def sentences() -> dict[str, str]:
    """The table of words with those of installed policies; the built-in ones and the first installed go before."""
    table = dict(SENTENCES)
    for policy in policies():
        for code, sentence in policy.sentences.items():
            table.setdefault(code, sentence)
    return table


def get_policy(name: str) -> Policy:
    """The policy of that name.

    Raises:
        UnknownPolicyError: there is none; the message lists those there are.
    """
    try:
        return _registry()[name]
    except KeyError:
        known = ", ".join(policy.name for policy in policies())
        raise UnknownPolicyError(f"expected one of the policies {known}, got '{name}'") from None


def bind(spec: RunSpec) -> BoundPolicy:
    """The policy that a run asks for, with its parameters validated.

    Raises:
        UnknownPolicyError: no such policy, or its parameters do not fit its schema.
    """
    return bind_segment(encode_spec(spec))


@lru_cache(maxsize=4096)
def bind_segment(spec_segment: str) -> BoundPolicy:
    """`bind` for the specification inside a token. Cached: equal segments are equal runs, so nothing can go stale.

    Raises:
        InvalidTokenError: the segment holds no specification.
        UnknownPolicyError: no such policy, or its parameters do not fit its schema.
    """
    spec = decode_spec(spec_segment)
    policy = get_policy(spec.policy.name)
    try:
        params = policy.params.model_validate(spec.policy.params)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise UnknownPolicyError(f"the parameters do not fit policy '{policy.name}': {problems}") from error
    return BoundPolicy(policy, params, spec, spec_segment)


def bind_token(token: str) -> BoundPolicy:
    """The bound policy of the run that a state token belongs to.

    Raises:
        InvalidTokenError: the token is damaged.
        UnknownPolicyError: this controller does not have the run's policy.
    """
    return bind_segment(split(token)[0])
