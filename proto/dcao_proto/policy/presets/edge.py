"""`edge`: drives the edge ratio e = η·ρ/threshold to a target.

f = (e₀/target)^−p with e₀ = η₀·ρ/threshold: the power law with the edge itself as the reference, so nothing is
calibrated and a schedule is not counted twice. Where ρ answers as ρ ≈ threshold/η (training at the edge) it settles at
f = target^(p/(1−p)), inside the bounds for every target in [½, 2] at p = ½.
"""

from typing import Literal

from dcao_proto.policy.parameters import redefault
from dcao_proto.policy.presets.power import PowerParameters, power_law
from dcao_proto.policy.presets.relative import relative_momentum_law
from dcao_proto.policy.presets.staged import staged


class EdgeParameters(PowerParameters):
    """The power law's parameters with the edge as reference."""

    reference: Literal["static", "schedule", "edge", "nearest_edge"] = redefault("reference", "edge")


EDGE = staged("edge", 2, EdgeParameters, power_law, relative_momentum_law, "Aims the learning rate at an edge ratio.")
