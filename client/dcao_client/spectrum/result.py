"""What a probe found: a value, never an exception and never a NaN."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, fields
from typing import Literal

Status = Literal["ok", "breakdown", "diverged", "unavailable"]


class Outcome(enum.StrEnum):
    """How a solve ended. ``sentence`` is what a user reads."""

    CONVERGED = "converged"
    BUDGET = "budget"
    BREAKDOWN = "breakdown"
    NON_FINITE = "non_finite"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Outcome.CONVERGED: "both Ritz bounds are within the tolerances asked for",
    Outcome.BUDGET: "the products allowed ran out first; the bounds say how far the values can be trusted",
    Outcome.BREAKDOWN: "the Krylov space holds fewer than two eigenvalues; there is no gap to report",
    Outcome.NON_FINITE: "the loss, its gradient or a curvature product is not finite; training has diverged here",
}


@dataclass(frozen=True, slots=True)
class Directional:
    """Slope −gᵀu and curvature uᵀHu of the loss along an update u (what ADLER, CDAT and GeN need)."""

    slope: float
    curvature: float
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The top of the curvature's spectrum on one batch. A field is None where it was not measured.

    Attributes:
        status: the wire's word: "ok", "breakdown", "diverged" or "unavailable".
        outcome: how the solver ended; None when it never ran.
        rho: λ₁, the largest algebraic eigenvalue of the mean loss's Hessian, or of P^-½HP^-½ when
            ``preconditioned``.
        gamma: λ₁ − λ₂ ≥ 0.
        rho_bound, gamma_bound: absolute error bounds of the two, ≥ 0.
        lambda_min, lambda_min_bound: the smallest algebraic eigenvalue seen, with its bound. It converges last.
        batch_sharpness: gᵀHg/gᵀg of the raw Hessian on this batch.
        grad_norm, loss: of this batch, without any loss scaling.
        matvecs: Hessian-vector products spent, all purposes together.
        seconds: wall time of the whole call.
        examples: examples the values are a mean over (all ranks and micro-batches).
        fingerprint: names what was measured; values with different fingerprints must not be compared.
        matvec: the product's kind.
        preconditioned: whether rho and gamma are those of P^-½HP^-½.
        raw_rho: λ₁ of the raw Hessian beside a preconditioned rho.
        memory: bytes of the solver's own vectors at their peak.
        directional: slope and curvature along the direction asked for.
        groups: the same per parameter group of the optimizer.
        detail: one sentence for a person when status is not "ok".
    """

    status: Status
    outcome: Outcome | None = None
    rho: float | None = None
    gamma: float | None = None
    rho_bound: float | None = None
    gamma_bound: float | None = None
    lambda_min: float | None = None
    lambda_min_bound: float | None = None
    batch_sharpness: float | None = None
    grad_norm: float | None = None
    loss: float | None = None
    matvecs: int = 0
    seconds: float = 0.0
    examples: int = 0
    fingerprint: str = ""
    matvec: str | None = None
    preconditioned: bool = False
    raw_rho: float | None = None
    memory: int | None = None
    directional: Directional | None = None
    groups: tuple[Directional, ...] = ()
    detail: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError when a number is not finite: such a value has a status, not a field."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"Spectrum.{field.name} must be finite or None; got {value}")


def finite(value: float) -> float | None:
    """The value, or None when it is not finite."""
    return value if math.isfinite(value) else None
