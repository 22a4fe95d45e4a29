"""`power`: f = (ρ/ρ_ref)^−p. Its elasticity is p everywhere, so for p < 1 it cannot pin itself at a bound."""

from typing import Literal

from pydantic import Field

from dcao_proto.policy.laws import power
from dcao_proto.policy.parameters import redefault
from dcao_proto.policy.presets.relative import RelativeParameters, relative_momentum_law
from dcao_proto.policy.presets.staged import staged


class PowerParameters(RelativeParameters):
    """Exponent of the power law."""

    exponent: float = Field(default=0.5, strict=True, ge=0, le=10, description="p, dimensionless; below 1 is stable.")
    reference: Literal["static", "schedule", "edge", "nearest_edge"] = redefault("reference", "schedule")


def power_law(rho: float, rho_ref: float, params: PowerParameters) -> tuple[float, float]:
    """f and its elasticity, which is the exponent."""
    return power(rho, rho_ref, params.exponent), params.exponent


POWER = staged(
    "power",
    1,
    PowerParameters,
    power_law,
    relative_momentum_law,
    "A power of the sharpness relative to a calibrated reference.",
)
