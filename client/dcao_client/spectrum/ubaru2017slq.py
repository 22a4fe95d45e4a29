"""The spectral density by stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017, §3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dcao_client.spectrum.basis import Basis
from dcao_client.spectrum.hutchinson1989 import signs
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


def density(
    matvec: Matvec, like: Tensor, *, steps: int, samples: int, generator: torch.Generator, space: Space
) -> Density:
    """φ(t) ≈ mean over random z of Σ τ_k² δ(t − θ_k): nodes θ of T, τ the first entries of its eigenvectors.

    Exact for polynomials of degree 2·steps − 1. Costs steps·samples products: an offline question, not a
    probe's.
    """
    nodes, weights, spent = [], [], 0
    for _ in range(samples):
        basis = Basis(like.numel(), dtype=like.dtype, device=like.device, work=like.dtype, space=space)
        solve = lanczos(
            matvec, signs(like, generator), max_matvecs=steps, stop=NEVER, generator=generator, basis=basis, want=0
        )
        spent += solve.matvecs
        if solve.found is None:
            continue
        nodes.append(solve.found.values)
        weights.append(solve.found.coefficients[0] ** 2 / samples)
    if not nodes:
        raise ValueError("expected a finite operator; every product was infinite or NaN")
    return Density(np.concatenate(nodes), np.concatenate(weights), spent)
