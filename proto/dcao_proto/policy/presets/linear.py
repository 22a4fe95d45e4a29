"""`linear`: f = 1 − slope·(ρ/ρ_ref − 1), the proposal's ablation of its exponential map.

The default slope of ¼ keeps the elasticity below 1 until ρ = 2.5 ρ_ref and meets the lower bound of ½ at 3 ρ_ref.
"""

from typing import Literal

from pydantic import Field

from dcao_proto.policy.laws import linear
from dcao_proto.policy.parameters import redefault
from dcao_proto.policy.presets.relative import RelativeParameters, relative_momentum_law
from dcao_proto.policy.presets.staged import staged


class LinearParameters(RelativeParameters):
    """Slope of the linear law."""

    slope: float = Field(default=0.25, strict=True, ge=0, le=10, description="−df/d(ρ/ρ_ref), dimensionless.")
    reference: Literal["static", "schedule", "edge", "nearest_edge"] = redefault("reference", "schedule")


def _law(rho: float, rho_ref: float, params: LinearParameters) -> tuple[float, float]:
    f = linear(rho, rho_ref, params.slope)
    return f, abs(params.slope * (rho / rho_ref) / f) if f > 0 else 0.0


LINEAR = staged(
    "linear", 1, LinearParameters, _law, relative_momentum_law, "A straight line through 1 at the reference."
)
