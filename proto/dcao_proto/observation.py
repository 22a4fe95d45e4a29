"""What a training worker measured at one optimizer step."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dcao_proto.hyperparameters import Hyperparameters
from dcao_proto.message import MAX_GROUPS, AttemptNumber, Count, Message, Name, NonNegative, Positive, Real, ShortText

MAX_METRICS = 16
METRIC_PATTERN = r"^[A-Za-z_][A-Za-z0-9_./-]{0,62}$"
Metrics = dict[Annotated[str, Field(pattern=METRIC_PATTERN)], Real]
ObservationStatus = Literal["ok", "breakdown", "diverged", "unavailable"]
MAX_TOKEN_LENGTH = 65536


class ProbeReport(Message):
    """How the curvature was measured and what that cost."""

    matvecs: Count | None = Field(default=None, description="Hessian-vector products.")
    seconds: NonNegative | None = Field(default=None, description="Wall-clock seconds of the probe.")
    overhead: NonNegative | None = Field(
        default=None, description="Share of the run's wall-clock time that probes took so far; 0.05 is 5 %."
    )
    examples: Count | None = Field(default=None, description="Examples in the probe batch, B.")
    fingerprint: ShortText | None = Field(
        default=None,
        description="Names what was measured: batch choice, size, mode, dtype, matvec, preconditioner. Curvatures of "
        "different fingerprints are not comparable and are never mixed.",
    )


class Directional(Message):
    """Slope and curvature of the loss along the optimizer's update direction u."""

    slope: Real = Field(description="−gᵀu, loss per unit step; > 0 where the update descends.")
    curvature: Real = Field(description="uᵀHu, loss per squared unit step; < 0 where the loss is concave along u.")


class GroupDirectional(Directional):
    """The same for one parameter group."""

    name: Name


class Path(Message):
    """How far a run has come and what gradients it has seen, both in the optimizer's own metric P.

    P is 1 for SGD and √v̂ + ε for the Adam family. distance/gradients is a learning rate without a tuned number in it
    (Ivgi et al. 2023, "DoG is SGD's best friend", §2; Khaled et al. 2023, "DoWG unleashed").
    """

    distance: NonNegative = Field(
        description="r: largest √Σ P·(w − w₀)² so far, w the weights, or their average under schedule-free averaging."
    )
    gradients: NonNegative = Field(description="√G: √Σ g²/P over all steps and parameters so far.")
    steps: Count = Field(description="Gradients in that sum.")
    shape: float = Field(
        default=1.0, strict=True, ge=0, le=1, description="What the user's schedule says now, over its peak."
    )
    most: NonNegative | None = Field(
        default=None, description="Under `guard`: what the user's schedule says now, above which nothing goes."
    )


class Observation(Message):
    """One worker's measurement at one optimizer step: body of `POST …/decisions`."""

    attempt: AttemptNumber = Field(default=1, description="Attempt of the run that observes; 1 at first.")
    step: Count = Field(description="Optimizer steps taken so far in this run.")
    status: ObservationStatus = Field(
        default="ok",
        description="ok; breakdown (the eigensolver found no second Ritz value); diverged (loss, gradient or "
        "curvature not finite); unavailable (no curvature could be measured). A non-finite number never crosses "
        "the wire.",
    )
    rho: Real | None = Field(
        default=None,
        description="Sharpness ρ: largest algebraic eigenvalue of the Hessian of the mean loss on the probe batch, in "
        "loss per squared parameter unit (preconditioned for the Adam family). May be negative. Only with status ok.",
    )
    gamma: NonNegative | None = Field(
        default=None, description="Spectral gap γ = λ₁ − λ₂ ≥ 0, unit of ρ. Only with status ok."
    )
    lambda_min: Real | None = Field(default=None, description="Smallest algebraic eigenvalue, unit of ρ.")
    batch_sharpness: Real | None = Field(default=None, description="gᵀHg / gᵀg on the probe batch, unit of ρ.")
    grad_norm: NonNegative | None = Field(default=None, description="Euclidean norm of the gradient.")
    loss: Real | None = Field(default=None, description="Mean training loss at this step.")
    rho_bound: NonNegative | None = Field(default=None, description="Ritz bound on ρ, absolute, unit of ρ.")
    gamma_bound: NonNegative | None = Field(default=None, description="Bound on γ, absolute, unit of ρ.")
    base: Hyperparameters | None = Field(
        default=None, description="What the user's scheduler says now; the run's base if absent."
    )
    applied: Hyperparameters | None = Field(
        default=None, description="What the optimizer used up to this step, for the record."
    )
    probe: ProbeReport | None = None
    directional: Directional | None = None
    path: Path | None = Field(default=None, description="For laws that set the rate from the way come.")
    groups: tuple[GroupDirectional, ...] | None = Field(default=None, max_length=MAX_GROUPS, fail_fast=True)
    metrics: Metrics | None = Field(
        default=None,
        max_length=MAX_METRICS,
        description="What the user logged since the last decision, validation metrics say. No law reads it.",
    )
    worker: Name | None = Field(default=None, description="Who measured, when a run has several workers.")
    weight: Positive | None = Field(
        default=None,
        description="Weight of this worker in an aggregate, for example its examples; 1 if absent.",
    )
    state: str | None = Field(
        default=None, max_length=MAX_TOKEN_LENGTH, description="State token echoed from the last decision."
    )
    version: Count | None = Field(default=None, description="Version echoed from the last decision.")

    @model_validator(mode="after")
    def _spectrum_matches_status(self) -> Self:
        if self.status == "ok":
            if self.rho is None or self.gamma is None:
                raise ValueError(
                    "status ok needs rho and gamma; without a spectrum send status breakdown or unavailable"
                )
        elif self.rho is not None or self.gamma is not None:
            raise ValueError(
                f"status {self.status} says there is no spectrum: leave out rho and gamma, or send status ok"
            )
        if (self.state is None) != (self.version is None):
            raise ValueError("state and version come from one decision: echo both or neither")
        return self
