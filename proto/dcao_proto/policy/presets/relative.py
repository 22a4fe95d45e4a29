"""Parameters that the scale-free presets share: sensitivities are relative to the reference, so units do not matter."""

from pydantic import Field

from dcao_proto.policy.laws import gap_gain
from dcao_proto.policy.parameters import StageParameters


class RelativeParameters(StageParameters):
    """κ per reference gap instead of per unit of γ."""

    kappa: float = Field(
        default=0.0,
        strict=True,
        ge=0,
        le=5,
        description="κ·γ_ref, dimensionless: g = 1 + tanh(κ(γ/γ_ref − 1)). 0 leaves the momentum alone: no theory "
        "ties the gap to the momentum, whose optimum depends on λ_max/λ_min.",
    )


def relative_momentum_law(gamma: float, gamma_ref: float, params: RelativeParameters) -> float:
    """g = 1 + tanh(κ(γ/γ_ref − 1))."""
    return gap_gain(gamma / gamma_ref, 1.0, params.kappa)
