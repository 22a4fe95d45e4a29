"""How the observations of several workers become one.

Every field is aggregated by itself over the workers that measured it, weighted by `weight`. Workers are taken in order
of name, so the result does not depend on who came first.
"""

import math
from collections.abc import Callable, Generator, Sequence

from dcao_proto import Directional, GroupDirectional, Observation
from dcao_proto.message import MAX_GROUPS
from dcao_proto.observation import MAX_METRICS
from dcao_proto.run import Aggregate

TRIM = 0.25
"""Share of the weight that the trimmed mean leaves out at either end: what is left is the interquartile mean."""

Weighted = Sequence[tuple[float, float]]
"""(value, weight) pairs; weights are positive."""

FIELDS = (
    "rho",
    "gamma",
    "lambda_min",
    "batch_sharpness",
    "grad_norm",
    "loss",
    "rho_bound",
    "gamma_bound",
)


def mean(pairs: Weighted) -> float:
    """Σ wᵢxᵢ / Σ wᵢ; within the range of its values, whatever rounding does."""
    largest = max(weight for _, weight in pairs)
    shares = [weight / largest for _, weight in pairs]
    total = math.fsum(shares)
    result = math.fsum(value * (share / total) for (value, _), share in zip(pairs, shares, strict=True))
    values = [value for value, _ in pairs]
    return min(max(result, min(values)), max(values))


def median(pairs: Weighted) -> float:
    """The weighted median: half of the weight lies on either side; the middle of two values that both qualify."""
    ordered = sorted(pairs)
    largest = max(weight for _, weight in ordered)
    half = math.fsum(weight / largest for _, weight in ordered) / 2
    below = 0.0
    for index, (value, weight) in enumerate(ordered):
        below += weight / largest
        if below > half:
            return value
        if below == half and index + 1 < len(ordered):
            following = ordered[index + 1][0]
            # The sum of halves cannot overflow; halves of the smallest numbers vanish, hence the limits.
            return min(max(value / 2 + following / 2, value), following)
    return ordered[-1][0]


def trimmed_mean(pairs: Weighted) -> float:
    """The weighted mean without the lowest and the highest quarter of the weight."""
    ordered = sorted(pairs)
    largest = max(weight for _, weight in ordered)
    shares = [(value, weight / largest) for value, weight in ordered]
    total = math.fsum(share for _, share in shares)
    low, high = TRIM * total, (1 - TRIM) * total
    kept, below = [], 0.0
    for value, share in shares:
        inside = min(below + share, high) - max(below, low)
        below += share
        if inside > 0:
            kept.append((value, inside))
    return mean(kept) if kept else median(pairs)


def largest(pairs: Weighted) -> float:
    """The largest value."""
    return max(value for value, _ in pairs)


def first(pairs: Weighted) -> float:
    """The value of the first worker by name."""
    return pairs[0][0]


METHODS: dict[Aggregate, Callable[[Weighted], float]] = {
    "first": first,
    "mean": mean,
    "median": median,
    "max": largest,
    "trimmed_mean": trimmed_mean,
}


def aggregate(observations: Sequence[Observation], method: Aggregate) -> Observation:
    """One observation of several of the same step.

    A worker that diverged makes the step diverged: the workers share their weights. Otherwise those that measured a
    spectrum speak for all; if none did, the first one's status stands. `base` and `applied` are the first worker's,
    since all use the same. `worker` is left out; `weight` is the sum.

    Args:
        observations: at least one, in order of worker.
        method: how values are aggregated.
    """
    work = pieces(observations, method)
    while True:
        try:
            next(work)
        except StopIteration as done:
            joint: Observation = done.value
            return joint


def pieces(observations: Sequence[Observation], method: Aggregate) -> Generator[None, None, Observation]:
    """`aggregate` in pieces of a few milliseconds each, of up to 10,000 workers."""
    weight = min(math.fsum(o.weight or 1.0 for o in observations), 1.7e308)
    diverged = [o for o in observations if o.status == "diverged"]
    measured = [o for o in observations if o.status == "ok"]
    speaking = diverged or measured or list(observations)
    combine = METHODS[method]
    lead = speaking[0]
    values: dict[str, object] = {}
    for name in FIELDS:
        values[name] = _combined([(getattr(o, name), o.weight) for o in speaking], combine)
        yield
    directional = _directional(speaking, combine)
    yield
    groups = yield from _groups(speaking, combine)
    return lead.model_copy(
        update={
            **values,
            "directional": directional,
            "groups": groups,
            "metrics": _logged(observations),
            "worker": None,
            "weight": weight,
            "state": None,
            "version": None,
        }
    )


def _logged(observations: Sequence[Observation]) -> dict[str, float] | None:
    """What any worker logged; the first one's value of a name, and 16 names at most."""
    found: dict[str, float] = {}
    for observation in observations:
        for name, value in (observation.metrics or {}).items():
            if len(found) < MAX_METRICS:
                found.setdefault(name, value)
    return found or None


def _combined(values: list[tuple[float | None, float | None]], combine: Callable[[Weighted], float]) -> float | None:
    pairs = [(value, weight or 1.0) for value, weight in values if value is not None]
    return combine(pairs) if pairs else None


def _directional(observations: Sequence[Observation], combine: Callable[[Weighted], float]) -> Directional | None:
    have = [(o.directional, o.weight or 1.0) for o in observations if o.directional is not None]
    if not have:
        return None
    return Directional(
        slope=combine([(d.slope, w) for d, w in have]), curvature=combine([(d.curvature, w) for d, w in have])
    )


def _groups(
    observations: Sequence[Observation], combine: Callable[[Weighted], float]
) -> Generator[None, None, tuple[GroupDirectional, ...] | None]:
    """Groups by name, in the order in which the first worker has them; 256 at most."""
    have: dict[str, list[tuple[GroupDirectional, float]]] = {}
    for observation in observations:
        for group in observation.groups or ():
            if group.name in have or len(have) < MAX_GROUPS:
                have.setdefault(group.name, []).append((group, observation.weight or 1.0))
        yield
    found = []
    for name, groups in have.items():
        slope = combine([(group.slope, weight) for group, weight in groups])
        curvature = combine([(group.curvature, weight) for group, weight in groups])
        found.append(GroupDirectional(name=name, slope=slope, curvature=curvature))
        yield
    return tuple(found) or None
