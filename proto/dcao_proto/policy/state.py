"""What a policy remembers from one decision to the next. It travels, so it is validated."""

from pydantic import Field

from dcao_proto.hyperparameters import Multipliers
from dcao_proto.message import Count, Message, NonNegative, Real, ShortText

LEAST_RETREAT = 2.0**-20  # twenty divergences; a rate a million times lower is not what was wrong
WINDOW = 9  # log ρ kept for the outlier test: Hampel's filter with half-width 4


class Statistics(Message):
    """Exponentially weighted mean and variance, for the stability metric of the proposal's §2.6. Decides nothing."""

    mean: Real = 0.0
    variance: NonNegative = 0.0
    count: Count = 0


class PolicyState(Message):
    """Memory of the built-in policies; it does not grow with the run."""

    step: Count | None = Field(default=None, description="Step of the last observation.")
    fingerprint: ShortText | None = Field(default=None, description="What is being measured.")
    calibration: tuple[tuple[Real, NonNegative], ...] = Field(
        default=(), max_length=64, description="(ρ, γ) of the probes from which the reference will be taken."
    )
    rho_ref: float | None = Field(default=None, gt=0, description="Reference sharpness, once known.")
    gamma_ref: float | None = Field(default=None, gt=0, description="Reference gap, once known.")
    lr_ref: float | None = Field(default=None, ge=0, description="Base learning rate when the reference was taken.")
    log_rho: Real | None = Field(default=None, description="Smoothed ln ρ.")
    gamma: NonNegative | None = Field(default=None, description="Smoothed γ.")
    window: tuple[Real, ...] = Field(default=(), max_length=WINDOW, description="The last ln ρ, newest last.")
    outliers: Count = Field(default=0, description="Outliers in a row.")
    sharpness: float | None = Field(
        default=None, gt=0, description="λ₁ that the ceiling stands on: follows ρ at once upwards, half-way downwards."
    )
    retreat: float = Field(
        default=1.0, ge=LEAST_RETREAT, le=1, description="Factor on push and ceiling after divergences."
    )
    factors: Multipliers = Field(default_factory=Multipliers, description="f, g, h in force.")
    diverged: Count = Field(default=0, description="Diverged observations in a row.")
    at_bound: Count = Field(default=0, description="Decisions in a row with f at a bound.")
    at_bound_total: Count = Field(default=0, description="Decisions so far with f at a bound.")
    loss: Statistics = Field(default_factory=Statistics)
    rho: Statistics = Field(default_factory=Statistics)
