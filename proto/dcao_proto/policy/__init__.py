"""The law: from curvature to learning rate, momentum and weight decay, as pure functions.

Both sides of the wire must agree on it, so it is part of the protocol. Read `pipeline.py` first: it is the whole
decision in one page; every stage it names is a file beside it.
"""

from dcao_proto.policy.registry import BoundPolicy, Policy, UnknownPolicyError, bind, get_policy, policies
from dcao_proto.policy.state import PolicyState
from dcao_proto.policy.token import InvalidTokenError

__all__ = [
    "BoundPolicy",
    "InvalidTokenError",
    "Policy",
    "PolicyState",
    "UnknownPolicyError",
    "bind",
    "get_policy",
    "policies",
]
