"""`default`: what a run gets that asks for nothing.

The edge law, aimed at 0.7 of whichever edge is nearer (λ₁'s in large batches, batch sharpness's in small ones), with
every steadying stage on: smoothed logarithms, outliers held, a 5 % dead band, at most a factor of 1.25 a decision
except far beyond the edge. A little of the gap in the momentum's horizon and of the curvature in the weight decay:
enough to see, too little to matter either way.
`docs/policies.md` has the measurement behind each number.
"""

from typing import Literal

from pydantic import Field

from dcao_proto.policy.parameters import redefault
from dcao_proto.policy.presets.edge import EdgeParameters
from dcao_proto.policy.presets.power import power_law
from dcao_proto.policy.presets.relative import relative_momentum_law
from dcao_proto.policy.presets.staged import staged


class DefaultParameters(EdgeParameters):
    """The edge law's parameters, steadied."""

    reference: Literal["static", "schedule", "edge", "nearest_edge"] = redefault("reference", "nearest_edge")
    target: float = redefault("target", 0.7)
    smoothing: float = redefault("smoothing", 0.8)
    reject_outliers: bool = redefault("reject_outliers", True)
    dead_band: float = redefault("dead_band", 0.05)
    slew: float | None = redefault("slew", 1.25)
    momentum_slew: float | None = redefault("momentum_slew", 1.1)
    kappa: float = Field(default=0.1, strict=True, ge=0, le=5, description="Sensitivity of g, relative to γ_ref.")
    mu: float = redefault("mu", 0.1)


DEFAULT = staged("default", 1, DefaultParameters, power_law, relative_momentum_law, "The edge law, steadied.")
