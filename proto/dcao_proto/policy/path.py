"""The path pushes, curvature holds: the law behind `default`, as small stages.

    push      lr = s · r/√G             how far the run has come over the gradients it has seen (observation.path)
    hold      lr ≤ C · threshold/λ̂      the ceiling, at a multiple of the edge of stability
    follow    λ̂ ← ρ                     at once upwards, half-way (in ln λ) downwards, either within a slew limit

Neither does alone: without a ceiling r/√G has no fixed point once gradients are mostly noise, and a rate that is a
share of the edge is answered by the curvature itself (docs/policies.md has the measurement behind every number here).

References:
    Ivgi et al. 2023, "DoG is SGD's best friend", §2 (r/√G); Cohen et al. 2021, 2022 (the edge for each optimizer).
"""

import math
from typing import NamedTuple

from pydantic import Field

from dcao_proto.message import Message
from dcao_proto.optimizers import AVERAGED, SCHEDULE_FREE, OptimizerName, stability_threshold, sums_momentum

TINY, HUGE = 1e-300, 1e300  # a sharpness is divided by; at the ends it stays a number
PUSH_AVERAGE, PUSH_WEIGHTS = 2.5, 2.2
PUSH_MUON = 1.2  # its momentum is part of the update, which goes back and forth less
LEEWAY, LEEWAY_STEPS = 1.5, 16
HELD_AVERAGED = 4.0  # the Adam family's ceiling never lies below this over λ̂
MARGIN_SCHEDULE_FREE, MARGIN_MUON, MARGIN_AVERAGED, MARGIN_SUMMED = 4.0, 8.0, 1.0, 1.5


class PathParameters(Message):
    """Every number of the law. Those that are absent depend on the optimizer."""

    push: float | None = Field(
        default=None,
        strict=True,
        gt=0,
        le=16,
        description="s: rate over r/√G. Absent: 2.5 where r is that of an average (schedule-free; 1.2 in the Muon "
        "form), 2.2 of the weights, times 1−β where the optimizer sums its momentum.",
    )
    leeway: float = Field(
        default=LEEWAY,
        strict=True,
        ge=1,
        le=4,
        description="Under `guard` and an optimizer of the Adam family, in the first 16 steps: how many times the push "
        "a rate may be that the user set. A rate held back while the path is short never makes up for it.",
    )
    margin: float | None = Field(
        default=None,
        strict=True,
        gt=0,
        le=1e9,
        description="C: the ceiling over the edge of stability. Absent: 4 under schedule-free averaging (8 in the Muon "
        "form), 1 for the Adam family, whose edge at β₁ = 0.9 is ten times further out (2 at β₁ = 0, falling to 1 at "
        "1/3), else 1.5.",
    )
    rho_tolerance: float = Field(
        default=0.5, strict=True, gt=0, description="A probe whose Ritz bound exceeds this share of |ρ| is not used."
    )
    rise: float = Field(
        default=4.0, strict=True, gt=1, description="λ̂ rises at most by this factor a decision, from the third on."
    )
    fall: float = Field(default=2.0, strict=True, gt=1, description="λ̂ falls at most by this factor a decision.")
    stop_after: int = Field(
        default=3, strict=True, ge=1, description="Diverged observations in a row after which the advice is to stop."
    )


def push_of(params: PathParameters, optimizer: OptimizerName, momentum: float) -> float:
    """s. Summed momentum is a hidden factor of 1/(1−β) on the rate, which r and G cannot tell from a larger rate."""
    if params.push is not None:
        return params.push
    if optimizer in SCHEDULE_FREE:
        return PUSH_MUON if optimizer == "schedule_free_muon" else PUSH_AVERAGE
    return PUSH_WEIGHTS * ((1.0 - momentum) if sums_momentum(optimizer) else 1.0)


def leeway_of(params: PathParameters, optimizer: OptimizerName, step: int) -> float:
    """What a guarded run may push for beyond the path, from the decision at `step` on.

    Not under SGD, whose λ₁ may be small on a first plateau: there the path alone holds.
    """
    return params.leeway if optimizer in AVERAGED and step < LEEWAY_STEPS else 1.0


def margin_of(params: PathParameters, optimizer: OptimizerName, momentum: float) -> float:
    """C. Without momentum the Adam family's edge is a twentieth of that at 0.9, and a rate at it moves too little."""
    if params.margin is not None:
        return params.margin
    if optimizer in SCHEDULE_FREE:
        return MARGIN_MUON if optimizer == "schedule_free_muon" else MARGIN_SCHEDULE_FREE
    if optimizer not in AVERAGED:
        return MARGIN_SUMMED
    return max(MARGIN_AVERAGED, HELD_AVERAGED * (1.0 - momentum) / (2.0 * (1.0 + momentum)))


class Followed(NamedTuple):
    """λ̂, and whether the slew limit kept it from where the measurement wanted it."""

    value: float
    limited: bool


def follow(sharpness: float | None, rho: float, seen: int, params: PathParameters) -> Followed | None:
    """λ̂ after a measurement.

    Args:
        sharpness: λ̂ so far, None before the first.
        rho: measured λ₁; the first measurement must be positive to count.
        seen: measurements before this one. One that was absurdly low at the start is corrected at once.
        params: of the law.

    Returns:
        None while no positive curvature has been measured.
    """
    if sharpness is None:
        return Followed(min(max(rho, TINY), HUGE), False) if rho > 0 else None
    if rho >= sharpness:
        most = math.inf if seen < 3 else sharpness * params.rise
        return Followed(min(rho, most, HUGE), rho > most)
    least = sharpness / params.fall
    wanted = math.sqrt(sharpness) * math.sqrt(rho) if rho > 0 else 0.0
    return Followed(max(wanted, least, TINY), wanted < least)


def ceiling(sharpness: float | None, params: PathParameters, optimizer: OptimizerName, momentum: float) -> float | None:
    """C · threshold/λ̂; None without a curvature or for an optimizer without a threshold."""
    threshold = stability_threshold(optimizer, momentum)
    if sharpness is None or threshold is None:
        return None
    return min(margin_of(params, optimizer, momentum) * threshold / sharpness, HUGE)


def least(one: float | None, other: float | None) -> float | None:
    """The smaller of two bounds, where None is none."""
    return other if one is None else one if other is None else min(one, other)


def next_probe(step: int, interval: int) -> int:
    """Steps to the next probe: after 1, 2, 4, 8, … while everything still moves, then after `interval`."""
    return min(max(step, 1), interval)
