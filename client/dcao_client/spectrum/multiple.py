"""Eigenvalues that the start vector cannot see at all: a second copy of λ₁ or λ₂, or those of another symmetry.

The space of products of one vector holds one vector of each eigenvalue, and none of an eigenvalue whose vectors are
orthogonal to the start. Both come from symmetry (equal branches, a head of zeros): the gradient of a symmetric network
is symmetric, and what is antisymmetric never enters. So a second space is built beside the first one, V, from a random
vector, of the products of (1 − VVᵀ)A(1 − VVᵀ). What V holds is gone there, so that a copy of λ₁ stands alone above a
low bulk and a few products show it, or show that there is none: of a random vector in n dimensions every unit vector
holds less than ``SHARE``/√n with probability √(2/π)·SHARE only (Kuczyński & Woźniakowski 1992, §3), which ``missed``
turns into the distance above θ₂ within which anything unseen lies.

Both spaces together are a pinching of A, so what the second one finds above θ₂ is a lower bound of an eigenvalue, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from dcao_client.spectrum.arrays import Vector
from dcao_client.spectrum.basis import Basis
from dcao_client.spectrum.lanczos import Matvec, Run, Solve
from dcao_client.spectrum.missed import missed
from dcao_client.spectrum.ritz import Ritz, bounds
from dcao_client.spectrum.stop import Stop

# One vector in 25 holds less of an eigenvector.
SHARE = 0.05
# Products at most.
MOST = 8


def with_multiples(
    matvec: Matvec,
    solve: Solve,
    known: Basis,
    fresh: Basis,
    stop: Stop,
    *,
    generator: Any,
    most: int = MOST,
    agree: Callable[[Vector], Vector] | None = None,
) -> Solve:
    """The solve with what a random start orthogonal to its basis finds above θ₂, and ``missed`` from that start.

    Args:
        matvec: as in ``lanczos``.
        solve: what ``lanczos`` found, with two values at least and two vectors.
        known: the basis of that solve.
        fresh: an empty one.
        stop: of that solve.
        generator: of the random start.
        most: products at most.
        agree: makes the start the same on replicated ranks.
    """
    if solve.found is None or solve.error is None or len(solve.vectors) < 2 or known.count >= known.space.size:
        return solve
    start = known.arrays.normal(generator, known.n, solve.vectors[0])
    start = start if agree is None else agree(start)
    for _ in range(2):
        start = known.subtract(start, known.inner(start))

    def beside(v: Vector) -> Vector:
        w = known.arrays.apart(matvec(v), v)
        return known.subtract(w, known.inner(w))

    run, merged, hidden = Run(fresh, stop, generator, None), solve.found, np.inf
    share = SHARE / known.space.size**0.5
    most = min(most, known.space.size - known.count)
    if not run.begin(start):
        return solve
    while run.matvecs < most and run.expand(beside):
        assert run.found is not None  # noqa: S101  (expand ran)
        merged = _merged(solve.found, run.found)
        first, second = (float(v) for v in merged.values[:2])
        span = max(first - second, stop.gamma_floor * abs(first))
        hidden = 0.0 if run.exhausted else missed(run.found.values, run.log_product, second + span, second, share)
        settled = merged is solve.found or bounds(run.found, stop.floor).rho <= stop.room(merged)
        if (settled and hidden <= stop.room(merged)) or not run.advance():
            break
    if run.found is None or not np.isfinite(hidden):
        return replace(solve, matvecs=solve.matvecs + run.matvecs)
    hidden = max(hidden, solve.missed)
    spent = solve.matvecs + run.matvecs
    asymmetry = max(solve.asymmetry, run.asymmetry)
    if merged is solve.found:
        error = replace(solve.error, gamma=max(solve.error.gamma, hidden))
        return replace(solve, error=error, missed=hidden, matvecs=spent, asymmetry=asymmetry)
    # Where a copy is near, θ's own residual is what separates it from its eigenvalue, and no square of it.
    own = float(max(solve.found.residuals[:2].max(), bounds(run.found, stop.floor).rho))
    rho, second_error = (
        max(solve.error.rho, own),
        max(solve.error.second, own) if np.isfinite(solve.error.second) else own,
    )
    error = replace(solve.error, rho=rho, second=second_error, gamma=max(rho + own, hidden))
    candidates = [(float(solve.found.values[i]), v) for i, v in enumerate(solve.vectors)]
    like = solve.vectors[0]
    turn = run.found.coefficients
    candidates += [(float(run.found.values[i]), fresh.combine(turn[:, i], like)) for i in range(min(2, turn.shape[1]))]
    candidates.sort(key=lambda pair: -pair[0])
    vectors = tuple(v for _, v in candidates[: len(solve.vectors)])
    return replace(
        solve,
        found=merged,
        error=error,
        vectors=vectors,
        matvecs=spent,
        missed=hidden,
        asymmetry=asymmetry,
        multiple=True,
    )


def _merged(found: Ritz, other: Ritz) -> Ritz:
    """The values with those of the other space that lie above the second one; itself where there are none."""
    above = int((other.values > found.values[1]).sum())
    if above == 0:
        return found
    values = np.concatenate([found.values, other.values[:above]])
    residuals = np.concatenate([found.residuals, other.residuals[:above]])
    order = np.argsort(-values, kind="stable")
    return Ritz(values[order], found.coefficients, residuals[order])
