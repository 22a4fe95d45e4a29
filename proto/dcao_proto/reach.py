"""How far an answer may lie from what one's own law gives: what bounds cannot say where they leave a rate no floor.

Under trust `guard` and `auto` a factor of 0 is within the bounds, and so is a ceiling of 1e-300: either ends training.
But the law is the same on both sides, and a client knows what it gives for the observation that it sent. Where one
worker decides alone, an answer by the same law is the same; a newer law may differ, by no more than `REACH`.
"""

import math

from dcao_proto.decision import Decision
from dcao_proto.run import RunSpec

# A rate 16 times off is another rate; it is also the most that trust `auto` may push for (`run.BOUNDS`).
REACH = 16.0
# Of several workers each knows its own measurement only, and one may have measured anything.
REACH_TOGETHER = 2.0**20
TOLERANCE = 1e-9  # relative


def reach_of(spec: RunSpec) -> float:
    """The largest factor, either way, between an answer and what the law gives here."""
    return REACH if spec.workers == 1 else REACH_TOGETHER


def is_open(spec: RunSpec) -> bool:
    """Whether the run's bounds on the learning rate allow more than `REACH` by themselves."""
    low, high = spec.bounds.lr
    return high > low * REACH


def beyond(spec: RunSpec, law: Decision, decision: Decision, reach: float) -> str | None:
    """What lies out of reach in an answer, or None.

    Args:
        spec: the run's.
        law: what the law gives here for the same observation.
        decision: the answer.
        reach: the largest factor between the two, either way.

    Returns:
        A sentence: what was expected and what was got.
    """
    if not is_open(spec):
        return None
    alone = spec.workers == 1
    for name, got, expected in (
        ("multiplier on lr", decision.multipliers.lr, law.multipliers.lr),
        *_groups(law, decision),
        *_ceilings(law, decision, alone=alone),
        ("lr", decision.lr, law.lr),
    ):
        most = expected * reach if alone or name != "lr" else math.inf  # theirs may have another base
        if not expected / reach * (1 - TOLERANCE) <= got <= most * (1 + TOLERANCE):
            given = "none" if got == math.inf else f"{got:.6g}"
            return f"{name}: expected it within a factor of {reach:g} of the law's {expected:.6g}, got {given}"
    if alone and law.action == "continue" != decision.action:
        return f"action: expected to continue, as the law does here, got {decision.action}"
    return None


def _ceilings(law: Decision, decision: Decision, *, alone: bool) -> list[tuple[str, float, float]]:
    """The ceilings, infinite where there is none; where the law sets none, the rate says enough.

    Where others' curvature decides too, theirs may set none.
    """
    if law.ceiling is None or (decision.ceiling is None and not alone):
        return []
    return [("ceiling", math.inf if decision.ceiling is None else decision.ceiling, law.ceiling)]


def _groups(law: Decision, decision: Decision) -> list[tuple[str, float, float]]:
    """The factors of groups that either sets apart; one that is not named has the run's."""
    theirs = {group.name: group.multiplier for group in decision.groups or ()}
    ours = {group.name: group.multiplier for group in law.groups or ()}
    f, expected = decision.multipliers.lr, law.multipliers.lr
    names = theirs.keys() | ours.keys()
    return [("multiplier on lr of a group", f * theirs.get(n, 1.0), expected * ours.get(n, 1.0)) for n in names]
