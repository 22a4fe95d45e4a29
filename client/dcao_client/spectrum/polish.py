"""One accurate Rayleigh–Ritz step on vectors that an inexact product found.

One-sided differences are cheap enough to build a Krylov space with and too noisy for its values where batch
norm amplifies rounding. The top vectors they find are good to the noise, so their Rayleigh quotients under
an accurate product are good to its square, and the residuals are true ones: A y − θ y with the accurate A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dcao_client.spectrum.arrays import Vector, arrays
from dcao_client.spectrum.lanczos import NOISE, Matvec, Solve
from dcao_client.spectrum.ritz import Array, Ritz, bounds
from dcao_client.spectrum.vectors import Space


def polish(accurate: Matvec, solve: Solve, floor: float, space: Space) -> Solve:
    """The solve with its top two values, vectors and bounds recomputed by ``accurate``; two products more.

    Lower Ritz values stay those of the solve; they only serve to separate λ₂ from the rest.
    """
    if solve.found is None or len(solve.vectors) < 2:
        return solve
    vectors = _orthonormal(solve.vectors[:2], space)
    images = [accurate(v) for v in vectors]
    small = np.array([[space.dot(v, image) for image in images] for v in vectors])
    theta, turn = np.linalg.eigh((small + small.T) / 2)
    theta, turn = theta[::-1].copy(), turn[:, ::-1].copy()
    turned = [_mix(vectors, turn[:, i]) for i in range(2)]
    moved = [_mix(images, turn[:, i]) for i in range(2)]
    residuals = [space.norm(moved[i] - float(theta[i]) * turned[i]) for i in range(2)]
    noise = NOISE * solve.asymmetry
    rest = solve.found.values[2:]
    below = solve.found.residuals[2:] + noise
    values = np.concatenate([theta, np.minimum(rest, theta[1])])
    found = Ritz(values, solve.found.coefficients, np.concatenate([residuals, below]))
    error = bounds(found, floor)
    # No bound is below what this step moved its value by: the vectors are as good as the products that found them.
    moves = np.abs(theta - solve.found.values[:2])
    # Central products have noise of their own, which nothing here shows: errors were up to half of T's asymmetry.
    least = solve.asymmetry / 2
    first = max(error.rho, least, min(residuals[0], float(moves[0]) / 2))
    second = max(error.second, least, min(residuals[1], float(moves[1])))
    minimum = max(error.minimum, noise) if len(rest) else error.minimum
    error = replace(error, rho=first, second=second, gamma=max(first, second, solve.missed), minimum=minimum)
    return replace(solve, found=found, error=error, vectors=(*turned, *solve.vectors[2:]), matvecs=solve.matvecs + 2)


def _orthonormal(vectors: Sequence[Vector], space: Space) -> list[Vector]:
    first = vectors[0] / space.norm(vectors[0])
    second = vectors[1] - space.dot(first, vectors[1]) * first
    return [first, second / space.norm(second)]


def _mix(vectors: Sequence[Vector], coefficients: Array) -> Vector:
    out = arrays(vectors[0]).zeros(vectors[0].shape[0], vectors[0])
    for vector, c in zip(vectors, coefficients, strict=True):
        out += float(c) * vector
    return out
