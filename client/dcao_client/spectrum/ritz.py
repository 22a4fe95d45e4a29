"""Ritz values of a projected matrix, and how far each can be from an eigenvalue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# What rounding alone does to a Ritz value, as a fraction of the largest: residual estimates keep falling to
# 1e-30 while true errors stay here (float32 products: measured 2e-7 to 2e-5; bfloat16 products: 4e-3).
FLOORS = {"float64": 1e-13, "float32": 1e-5, "bfloat16": 4e-3, "float16": 1e-3}


@dataclass(frozen=True, slots=True)
class Ritz:
    """Ritz values in descending order with their vectors' coefficients (columns) and residual norms."""

    values: Array
    coefficients: Array
    residuals: Array

    @property
    def scale(self) -> float:
        """The largest |θ|."""
        return float(np.abs(self.values).max(initial=0.0))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Absolute error bounds of λ₁, of λ₂ (infinite when there is none yet), of the gap and of λ_min."""

    rho: float
    second: float
    gamma: float
    minimum: float


def ritz(projected: Array, beta: float) -> Ritz:
    """Eigen-decompose the symmetric projected matrix T of A V = V T + β v₊ eₖᵀ.

    The residual of pair i is β|s_ki| (Parlett, The Symmetric Eigenvalue Problem, §11.4 and §13.2).
    """
    values, vectors = np.linalg.eigh((projected + projected.T) / 2)
    values, vectors = values[::-1].copy(), vectors[:, ::-1].copy()
    return Ritz(values, vectors, beta * np.abs(vectors[-1]))


def bounds(found: Ritz, floor: float) -> Bounds:
    """Error bounds of the top two Ritz values, their gap and the lowest one.

    For a pair with residual r separated from the other eigenvalues by δ, |θ − λ| ≤ min(r, r²/δ) (Kato–Temple;
    Parlett §11.7). δ is not known; it is read off the other Ritz values less what those may still move.
    Not a guarantee: an eigenvector the start vector lacks is invisible to any Krylov method.
    """
    theta, r = found.values, np.maximum(found.residuals, floor * found.scale)
    least = floor * found.scale
    k = len(theta)
    if k == 1:
        return Bounds(float(r[0]), np.inf, np.inf, float(r[0]))
    # Values approach from inside: λ_i ≥ θ_i at the top, so a lower neighbour can only come closer by its
    # own error.
    below_second = theta[1] - theta[2] - r[2] if k > 2 else 0.0
    second = _kato_temple(r[1], min(below_second, theta[0] - theta[1]), least)
    if r[1] > max(abs(theta[1]) / 2, least):
        # θ₂ is the quotient of a dull direction, whose residual is small beside λ₁ because its whole product is. It
        # says nothing of λ₂, which lies anywhere up to λ₁.
        second = max(second, theta[0] - theta[1])
    first = _kato_temple(r[0], theta[0] - theta[1] - second, least)
    minimum = _kato_temple(r[-1], theta[-2] - theta[-1] - r[-2], least)
    # Both errors have the same sign, so that of the difference is at most the larger one.
    return Bounds(first, second, max(first, second), minimum)


def _kato_temple(residual: float, separation: float, least: float) -> float:
    quadratic = residual * residual / separation if separation > 0 else np.inf
    return float(max(min(residual, quadratic), least))
