"""Parameters that every built-in policy has: one field for each stage. A preset is a subclass with its own defaults."""

from typing import Any, Literal

from pydantic import Field

from dcao_proto.message import Count, Message


class StageParameters(Message):
    """Settings of the stages around the law. The defaults here leave every optional stage off."""

    # gate
    rho_tolerance: float = Field(
        default=0.1,
        strict=True,
        gt=0,
        description="A probe whose Ritz bound exceeds this share of |ρ| is not used.",
    )
    gamma_tolerance: float = Field(
        default=0.25, strict=True, gt=0, description="Momentum holds when γ's bound exceeds this share of γ."
    )
    stop_after: int = Field(
        default=3,
        strict=True,
        ge=1,
        description="Diverged observations in a row after which the advice is to stop.",
    )
    # reference
    reference: Literal["static", "schedule", "edge", "nearest_edge"] = Field(
        default="static",
        description="static: ρ_ref as given or calibrated; schedule: scaled by η₀(calibration)/η₀(now), so that the "
        "user's decay is not counted twice; edge: target·threshold/η₀(now), which needs no calibration; "
        "nearest_edge: the same for the nearer of two edges, that of λ₁ and, where the optimizer sums its momentum, "
        "that of batch sharpness.",
    )
    rho_ref: float | None = Field(
        default=None, strict=True, gt=0, description="Reference sharpness; calibrated if absent."
    )
    gamma_ref: float | None = Field(default=None, strict=True, gt=0, description="Reference gap; calibrated if absent.")
    target: float = Field(default=1.0, strict=True, gt=0, description="Edge ratio that the edge reference stands for.")
    calibration_probes: int = Field(
        default=5, strict=True, ge=1, le=64, description="Accepted probes whose median is the reference."
    )
    calibration_spread: float = Field(
        default=0.3,
        strict=True,
        gt=0,
        description="The calibrating probes' ln ρ must lie within this; after four times as many probes it is waived.",
    )
    warmup_steps: Count = Field(default=0, description="Probes before this step do not calibrate.")
    # smoothing
    smoothing: float = Field(
        default=0.0,
        strict=True,
        ge=0,
        lt=1,
        description="Weight of the past in the average of ln ρ and γ; 0 is none.",
    )
    reject_outliers: bool = Field(
        default=False,
        description="Hold on a ρ beyond 3 scaled median deviations of the last nine, at most twice.",
    )
    # momentum and weight decay
    momentum_form: Literal["literal", "horizon"] = Field(
        default="horizon", description="literal: β = β₀·g; horizon: β = 1 − (1−β₀)/g, which stays below 1."
    )
    preserve_effective_lr: bool = Field(
        default=False, description="Keep η/(1−β) when β moves, for optimizers whose buffer is a sum."
    )
    weight_decay_form: Literal["literal", "centred"] = Field(
        default="centred",
        description="literal: h = 1 + μ·ρ/ρ_ref; centred: h = 1 + μ·(ρ/ρ_ref − 1), 1 at the reference.",
    )
    kappa: float | None = Field(default=0.0, strict=True, ge=0, description="κ, sensitivity of the momentum.")
    mu: float = Field(default=0.0, strict=True, ge=0, description="μ, sensitivity of the weight decay.")
    # dead band and slew limit
    dead_band: float = Field(
        default=0.0, strict=True, ge=0, lt=1, description="A factor stays while |ln(new/old)| is below this."
    )
    slew: float | None = Field(
        default=None,
        strict=True,
        gt=1,
        description="Largest ratio by which a factor may change in one decision.",
    )
    momentum_slew: float | None = Field(
        default=None, strict=True, gt=1, description="The same for g, that is for the momentum's horizon."
    )
    fast_edge: float = Field(
        default=2.0, strict=True, gt=0, description="Above this edge ratio f may fall without a slew limit."
    )
    literal_negative: bool = Field(
        default=False, description="Let the law see ρ ≤ 0 as it is; otherwise f never exceeds 1 there."
    )


def redefault(name: str, default: Any) -> Any:
    """A stage's field with another default, for a preset: same constraints, same description."""
    inherited = StageParameters.model_fields[name]
    constraints: dict[str, Any] = {"strict": True} if inherited.annotation is not bool else {}
    for item in inherited.metadata:
        constraints.update({bound: getattr(item, bound) for bound in ("gt", "ge", "lt", "le") if hasattr(item, bound)})
    if isinstance(default, str):
        constraints = {}
    return Field(default, description=inherited.description, **constraints)
