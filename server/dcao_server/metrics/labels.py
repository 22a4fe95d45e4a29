"""Which words of a client's may become a label: those that the project knows. Everything else is `other`.

A journal's reasons and a decision's policy are texts that a client sends; as labels, each new one would be a new series
for Prometheus and a new field in the store, for ever.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from dcao_proto.policy.reasons import REASONS
from dcao_proto.policy.registry import UnknownPolicyError, get_policy

OTHER = "other"
_KNOWN = frozenset(REASONS)
MOST_VERSIONS = 1000


def known_reasons(reasons: Iterable[str]) -> list[str]:
    """The reasons' labels, one for each."""
    return [reason if reason in _KNOWN else OTHER for reason in reasons]


def known_counts(counts: Mapping[str, int], outcomes: Iterable[str]) -> dict[str, int]:
    """A run's counts of reasons by label, without those of its outcomes; what an older controller stored is `other`."""
    left_out = frozenset(outcomes)
    found: dict[str, int] = {}
    for name, count in counts.items():
        if name not in left_out:
            label = name if name in _KNOWN else OTHER
            found[label] = found.get(label, 0) + count
    return found


@lru_cache(maxsize=1024)
def policy_label(decided_by: str, declared: str) -> str:
    """name@version of the policy that decided, if the run declares it and this or an earlier version of it is known.

    Args:
        decided_by: as a decision says it, which may be a client's own.
        declared: the policy's name in the run's specification.
    """
    try:
        newest = get_policy(declared).version
    except UnknownPolicyError:
        return declared
    name, _, version = decided_by.partition("@")
    known = name == declared and version in map(str, range(1, min(newest, MOST_VERSIONS) + 1))
    return decided_by if known else declared
