"""What a decision is made from, as a state token says it."""

from collections import OrderedDict
from typing import NamedTuple

from dcao_proto import ProblemError, ProblemKind
from dcao_proto.policy import BoundPolicy, InvalidTokenError, PolicyState, UnknownPolicyError
from dcao_proto.policy.registry import bind_segment
from dcao_proto.policy.token import decode_state, split
from dcao_server.store.contract import RunKey


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
    issued = _issued.take(token)
    if issued is not None:
        return Basis(issued.policy, issued.state, version)
    try:
        spec_segment, state_segment = split(token)
        return Basis(bind_segment(spec_segment), decode_state(state_segment), version)
    except (InvalidTokenError, UnknownPolicyError) as error:
        raise ProblemError(ProblemKind.INVALID_STATE, str(error)) from error


def stored_basis(key: RunKey, token: str, version: int) -> Basis:
    """What the token in the store says.

    Raises:
        ProblemError: store-unavailable; this controller cannot read it, and nobody who asks is to blame.
    """
    try:
        return basis_of(token, version)
    except ProblemError as error:
        raise ProblemError(
            ProblemKind.STORE_UNAVAILABLE,
            f"expected a stored state of run {key.run} of project {key.project} that this controller can read, but "
            f"{error.detail}; another replica may know it, or POST attempts with the state of a checkpoint",
            headers={"Retry-After": "1"},
        ) from error


class _Issued(NamedTuple):
    """A token that this replica has given out, and what it says."""

    token: str
    policy: BoundPolicy
    state: PolicyState


class _IssuedTokens:
    """The tokens just given out: most come back to this replica, and need not be checked and decoded again.

    A state is what its token says, so nothing can go stale; a token that is not here is decoded. They are kept by
    their ends (the checksum and some of the state), and compared whole: the hash of a whole one takes a microsecond.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._issued: OrderedDict[str, _Issued] = OrderedDict()

    def put(self, issued: _Issued) -> None:
        """Keeps a token, in place of the oldest one."""
        if len(self._issued) >= self._size:
            self._issued.popitem(last=False)
        self._issued[issued.token[-END:]] = issued

    def take(self, token: str) -> _Issued | None:
        """What is known of it; it is no longer kept, since a token comes back once as a rule."""
        issued = self._issued.pop(token[-END:], None)
        return issued if issued is not None and issued.token == token else None


END = 24  # characters of a token
_issued = _IssuedTokens(4096)


def remember(token: str, policy: BoundPolicy, state: PolicyState) -> None:
    """A token was given out; this is what it says."""
    _issued.put(_Issued(token, policy, state))
