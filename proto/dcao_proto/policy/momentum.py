"""From the gap factor g to a momentum that is a momentum: at least 0, below 1, within its bounds."""

from typing import NamedTuple

from dcao_proto.hyperparameters import Bounds
from dcao_proto.policy.bounds import clamp


class Momentum(NamedTuple):
    """β, its factor on the base, and whether a limit was met."""

    value: float
    multiplier: float
    capped: bool


def compose_momentum(base: float, gain: float, bounds: Bounds, *, literal: bool) -> Momentum:
    """β = β₀·g (literal) or β = 1 − (1−β₀)/g (horizon), within bounds and at most `max_momentum`.

    The literal form reaches 1.8 for β₀ = 0.9 and g = 2; on the horizon 1/(1−β) the same g doubles the memory: 0.95.
    The cap limits what DCAO adds: a base momentum above `max_momentum` is the user's choice and is kept.
    """
    if base <= 0:
        return Momentum(0.0, 1.0, False)
    wanted = base * gain if literal else 1.0 - (1.0 - base) / gain if gain > 0 else 0.0
    ratio = gain if literal else wanted / base
    multiplier = clamp(ratio, bounds.momentum)
    cap = max(bounds.max_momentum, base)
    value = base * multiplier
    if value > cap:
        value, multiplier = cap, cap / base
    return Momentum(value, multiplier, multiplier != ratio)
