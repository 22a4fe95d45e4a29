"""What a decision is made from, as a state token says it."""

from typing import NamedTuple

from dcao_proto import ProblemError, ProblemKind
from dcao_proto.policy import BoundPolicy, InvalidTokenError, PolicyState, UnknownPolicyError
from dcao_proto.policy.registry import bind_segment
from dcao_proto.policy.token import PREFIX, decode_state, split


class Basis(NamedTuple):
    """What a decision is made from: the policy under the run's specification, its state, and that state's version."""

    policy: BoundPolicy
    state: PolicyState
    version: int


def basis_of(token: str, version: int) -> Basis:
    """What a token says.

    Raises:
        ProblemError: invalid-state; it is damaged, or this controller lacks its policy.
    """
    try:
        spec_segment, state_segment = split(token)
        state = _states.take(f"{PREFIX}.{spec_segment}.{state_segment}") or decode_state(state_segment)
        return Basis(bind_segment(spec_segment), state, version)
    except (InvalidTokenError, UnknownPolicyError) as error:
        raise ProblemError(ProblemKind.INVALID_STATE, str(error)) from error


class _States:
    """States that this replica has just given out, by their tokens: most come back to it, and need not be decoded.

    A state is what its token says, so nothing can go stale; a token that is not here is decoded.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._states: dict[str, PolicyState] = {}

    def put(self, token: str, state: PolicyState) -> None:
        """Keeps a state, in place of the oldest one."""
        if len(self._states) >= self._size:
            del self._states[next(iter(self._states))]
        self._states[token] = state

    def take(self, token: str) -> PolicyState | None:
        """The state; it is no longer kept, since a token comes back once as a rule."""
        return self._states.pop(token, None)


_states = _States(4096)


def remember(token: str, state: PolicyState) -> None:
    """A token was given out; this is its state."""
    _states.put(token.rpartition(".")[0], state)
