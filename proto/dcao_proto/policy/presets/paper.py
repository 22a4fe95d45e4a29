"""`paper`: the proposal to the letter.

f = exp(−α(ρ−ρ_ref)), g = 1 + tanh(κ(γ−γ_ref)), h = 1 + μ·ρ/ρ_ref, each clamped to the run's bounds, nothing smoothed.

How it differs from the text, because the text needs it to be usable; both are reported as reasons:
1. The momentum is capped below 1: β₀·g reaches 1.8 for β₀ = 0.9.
2. Sensitivities that are not given are scale-free: α = ln2/ρ_ref makes f exactly 2, 1, ½ at ρ = 0, ρ_ref, 2ρ_ref;
   κ = atanh(½)/γ_ref makes g exactly ½, 1, 1½ at γ = 0, γ_ref, 2γ_ref. References that are not given are calibrated.

Not good for: a reference taken early. The scale-free law's loop gain exceeds 1 above ρ = 1.44 ρ_ref, and once ρ has
sharpened past that it holds the learning rate at its lower bound.

Reference: Dynamic Curvature-Aware Optimization for Bridging Theory and Practice in Deep Learning, §2.3.
"""

from typing import Literal

from pydantic import Field

from dcao_proto.policy.laws import ATANH_HALF, LN2, exponential, gap_gain
from dcao_proto.policy.parameters import StageParameters, redefault
from dcao_proto.policy.presets.staged import staged


class PaperParameters(StageParameters):
    """α, κ, μ and the references of the proposal."""

    alpha: float | None = Field(default=None, strict=True, ge=0, description="α, in 1/unit of ρ; ln2/ρ_ref if absent.")
    kappa: float | None = Field(
        default=None,
        strict=True,
        ge=0,
        description="κ (the proposal's β₁), in 1/unit of γ; atanh(½)/γ_ref if absent.",
    )
    mu: float = redefault("mu", 0.5)
    momentum_form: Literal["literal", "horizon"] = redefault("momentum_form", "literal")
    weight_decay_form: Literal["literal", "centred"] = redefault("weight_decay_form", "literal")
    literal_negative: bool = redefault("literal_negative", True)


def _law(rho: float, rho_ref: float, params: PaperParameters) -> tuple[float, float]:
    alpha = LN2 / rho_ref if params.alpha is None else params.alpha
    return exponential(rho, rho_ref, alpha), alpha * max(rho, 0.0)


def _momentum_law(gamma: float, gamma_ref: float, params: PaperParameters) -> float:
    return gap_gain(gamma, gamma_ref, ATANH_HALF / gamma_ref if params.kappa is None else params.kappa)


PAPER = staged(
    "paper", 1, PaperParameters, _law, _momentum_law, "The proposal's formulas to the letter, momentum capped below 1."
)
