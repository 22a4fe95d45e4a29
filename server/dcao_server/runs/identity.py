"""When are two runs the same? When their specifications encode to the same segment; the store compares a digest."""

import hashlib
from functools import lru_cache

from dcao_proto import ProblemError, ProblemKind, RunSpec
from dcao_proto.policy import BoundPolicy, InvalidTokenError, UnknownPolicyError, bind
from dcao_proto.policy.registry import bind_token

MOST_DECISIONS = 2**40
"""A version counts decisions; one every millisecond for thirty years is fewer."""


@lru_cache(maxsize=4096)
def digest_of(spec_segment: str) -> str:
    """BLAKE2b-128 of an encoded specification, in hexadecimal."""
    return hashlib.blake2b(spec_segment.encode(), digest_size=16).hexdigest()


def bound(spec: RunSpec) -> BoundPolicy:
    """The policy of a declared run.

    Raises:
        ProblemError: invalid; this controller lacks the policy, or its parameters do not fit.
    """
    try:
        return bind(spec)
    except UnknownPolicyError as error:
        raise ProblemError(ProblemKind.INVALID, str(error)) from error


def bound_from(token: str) -> BoundPolicy:
    """The policy of the run that a state token belongs to.

    Raises:
        ProblemError: invalid-state; the token is damaged, or this controller lacks the policy it names.
    """
    try:
        return bind_token(token)
    except (InvalidTokenError, UnknownPolicyError) as error:
        raise ProblemError(ProblemKind.INVALID_STATE, str(error)) from error


def other_specification() -> ProblemError:
    """The token is sound, but of a run with another specification."""
    return ProblemError(
        ProblemKind.INVALID_STATE,
        "expected a state token of this run, got one of a run with another specification; "
        "echo the last decision's state of this run, or leave state and version out",
    )


def check_version(version: int | None) -> None:
    """Nothing, for a version that a run can have.

    Raises:
        ProblemError: invalid-state; no run has decided so often.
    """
    if version is not None and version > MOST_DECISIONS:
        raise ProblemError(
            ProblemKind.INVALID_STATE,
            f"expected the version of this run's last decision, got {version}, more than a run can have decided; echo "
            "state and version of one decision, or leave both out",
        )


def implausible(version: int) -> ProblemError:
    """The version is ahead of the history by more decisions than there were steps for."""
    return ProblemError(
        ProblemKind.INVALID_STATE,
        f"expected a version near {version}, the history's, got one that is ahead of it by more decisions than steps; "
        "echo state and version of the last decision of this run, or leave both out",
    )
