"""Learning rate, momentum, weight decay: the three values that the controller sets, and how far it may move them."""

from typing import Annotated

from pydantic import Field

from dcao_proto.message import Message


class Hyperparameters(Message):
    """The values that an optimizer uses, or would use without DCAO (the *base*)."""

    lr: float = Field(strict=True, ge=0, le=1e6, description="Learning rate η, per optimizer step; 0 ≤ η ≤ 1e6.")
    momentum: float = Field(
        default=0.0,
        strict=True,
        ge=0,
        lt=1,
        description="Momentum β (β₁ for the Adam family), dimensionless; 0 ≤ β < 1.",
    )
    weight_decay: float = Field(
        default=0.0,
        strict=True,
        ge=0,
        le=1e6,
        description="Weight decay λ: L2 coefficient, coupled or decoupled as the optimizer has it; 0 ≤ λ ≤ 1e6.",
    )


class Multipliers(Message):
    """Factors on the base values: value in use = base × multiplier. 1 leaves the base as it is."""

    lr: float = Field(default=1.0, ge=0, description="f, factor on the learning rate; within the run's bounds.")
    momentum: float = Field(default=1.0, ge=0, description="g, factor on the momentum; within the run's bounds.")
    weight_decay: float = Field(default=1.0, ge=0, description="h, factor on the weight decay; within the bounds.")


Interval = tuple[
    Annotated[float, Field(strict=True, ge=0, le=1, description="Least factor; 0 ≤ low ≤ 1.")],
    Annotated[float, Field(strict=True, ge=1, le=1e6, description="Largest factor; 1 ≤ high ≤ 1e6.")],
]


class Bounds(Message):
    """How far each value may be moved from its base; every interval holds 1, which is "leave it alone".

    The default [0.5, 2] is the proposal's §2.3.
    """

    lr: Interval = (0.5, 2.0)
    momentum: Interval = (0.5, 2.0)
    weight_decay: Interval = (0.5, 2.0)
    max_momentum: float = Field(
        default=0.99,
        strict=True,
        ge=0,
        lt=1,
        description="Momentum is never raised above this; a base momentum that already is above it is kept. "
        "0 ≤ max < 1. The literal β₀·g reaches 1.8 for β₀ = 0.9, where momentum SGD diverges.",
    )
