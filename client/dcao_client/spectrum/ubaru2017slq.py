"""The spectral density by stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017, §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dcao_client.spectrum.arrays import Vector, arrays
from dcao_client.spectrum.basis import Basis
from dcao_client.spectrum.lanczos import Matvec, lanczos
from dcao_client.spectrum.ritz import Array
from dcao_client.spectrum.stop import Stop
from dcao_client.spectrum.vectors import Space

NEVER = Stop(rho_tol=0.0, gamma_tol=0.0, gamma_floor=0.0, floor=1e-300)


@dataclass(frozen=True, slots=True)
class Density:
    """Quadrature nodes and weights: the share of eigenvalues near each node; weights sum to 1."""

    nodes: Array
    weights: Array
    matvecs: int

    def curve(self, points: int = 400, width: float | None = None) -> tuple[Array, Array]:
        """The density smoothed by Gaussians of the given width (default: 1 % of the range), on an even grid."""
        low, high = float(self.nodes.min()), float(self.nodes.max())
        sigma = width if width is not None else max(1e-2 * (high - low), 1e-12)
        grid = np.linspace(low - 4 * sigma, high + 4 * sigma, points)
        bells = np.exp(-0.5 * ((grid[:, None] - self.nodes[None]) / sigma) ** 2)
        return grid, bells @ self.weights / (sigma * np.sqrt(2 * np.pi))


def density(matvec: Matvec, like: Vector, *, steps: int, samples: int, generator: Any, space: Space) -> Density:
    """φ(t) ≈ mean over random z of Σ τ_k² δ(t − θ_k): nodes θ of T, τ the first entries of its eigenvectors.

    Exact for polynomials of degree 2·steps − 1. Costs steps·samples products: an offline question, not a
    probe's.
    """
    nodes, weights, spent = [], [], 0
    for _ in range(samples):
        start = arrays(like).signs(generator, like.shape[0], like)
        solve = lanczos(
            matvec,
            start,
            max_matvecs=steps,
            stop=NEVER,
            generator=generator,
            basis=Basis(like, space=space),
            want=0,
        )
        spent += solve.matvecs
        if solve.found is None:
            continue
        nodes.append(solve.found.values)
        weights.append(solve.found.coefficients[0] ** 2 / samples)
    if not nodes:
        raise ValueError("expected a finite operator; every product was infinite or NaN")
    return Density(np.concatenate(nodes), np.concatenate(weights), spent)
