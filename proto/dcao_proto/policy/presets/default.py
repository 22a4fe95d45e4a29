"""`default`: what a run gets that asks for nothing.

The edge law with every steadying stage on: smoothed ln ρ, outliers held, a 5 % dead band, at most a factor of 1.25 a
decision except far beyond the edge; a little of the gap in the momentum's horizon, a little of the sharpness in the
weight decay. `docs/policies.md` has the measurement behind each number.
"""

from pydantic import Field

from dcao_proto.policy.presets.edge import EdgeParameters
from dcao_proto.policy.presets.power import power_law
from dcao_proto.policy.presets.relative import relative_momentum_law
from dcao_proto.policy.presets.staged import staged


class DefaultParameters(EdgeParameters):
    """The edge law's parameters, steadied."""

    smoothing: float = Field(default=0.8, strict=True, ge=0, lt=1, description="Weight of the past in the averages.")
    reject_outliers: bool = True
    dead_band: float = Field(default=0.05, strict=True, ge=0, lt=1, description="Least change of ln f that is made.")
    slew: float | None = Field(default=1.25, strict=True, gt=1, description="Largest change of f in one decision.")
    momentum_slew: float | None = Field(default=1.1, strict=True, gt=1, description="The same for g.")
    kappa: float = Field(default=0.3, strict=True, ge=0, le=5, description="Sensitivity of g, relative to γ_ref.")
    mu: float = Field(default=0.25, strict=True, ge=0, description="Sensitivity of h.")


DEFAULT = staged("default", 1, DefaultParameters, power_law, relative_momentum_law, "The edge law, steadied.")
