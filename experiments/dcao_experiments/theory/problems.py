"""Problems small enough for 10⁵ steps and exact curvature, in float64 numpy: convex, non-convex, a ReLU network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
SIZE = 30  # of the synthetic ones
INPUTS, HIDDEN, EXAMPLES = 6, 8, 64  # of the network
STEP = 1e-5  # of differences of gradients; relative to float64's 1e-16 their error is about 1e-6


@dataclass(frozen=True)
class Problem:
    """A function of a vector.

    Attributes:
        value, gradient: exact, of the whole function.
        noise: standard deviation of what is added to each entry of a gradient.
        start: where a run begins.
        smoothness: a bound on the largest curvature along the runs.
        minimum: where the function is least; None where it is not known.
    """

    name: str
    value: Callable[[Vector], float]
    gradient: Callable[[Vector], Vector]
    start: Vector
    smoothness: float
    noise: float
    minimum: Vector | None = None

    def hessian(self, w: Vector) -> Vector:
        """By differences of gradients, both ways; symmetric."""
        columns = [
            (self.gradient(w + STEP * e) - self.gradient(w - STEP * e)) / (2 * STEP) for e in np.eye(len(w))
        ]  # fmt: skip
        found = np.stack(columns)
        return (found + found.T) / 2

    def product(self, w: Vector, v: Vector) -> Vector:
        """H v, by the same differences."""
        return (self.gradient(w + STEP * v) - self.gradient(w - STEP * v)) / (2 * STEP)


def _rotation(seed: int) -> Vector:
    return np.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(SIZE, SIZE)))[0])


def quadratic(seed: int, gap: float = 1.0, noise: float = 0.3) -> Problem:
    """½ (w−w*)ᵀH(w−w*); eigenvalues 10 and from 10 − gap down to 0.01, in a random basis."""
    eigenvalues = np.concatenate([[10.0], np.geomspace(10.0 - gap, 0.01, SIZE - 1)])
    basis = _rotation(seed)
    h = basis @ np.diag(eigenvalues) @ basis.T
    best = np.random.default_rng(seed + 1).normal(size=SIZE)
    return Problem(
        "noisy quadratic", lambda w: float((w - best) @ h @ (w - best)) / 2, lambda w: h @ (w - best),
        np.zeros(SIZE), 10.0, noise, best,
    )  # fmt: skip


def waves(seed: int, noise: float = 0.3) -> Problem:
    """Σ hᵢ(1 − cos qᵢᵀw): gradient and curvature bounded, saddles and maxima everywhere."""
    h, basis = np.geomspace(5.0, 0.05, SIZE), _rotation(seed)
    return Problem(
        "non-convex waves", lambda w: float(np.sum(h * (1 - np.cos(basis.T @ w)))),
        lambda w: basis @ (h * np.sin(basis.T @ w)),
        2.0 * np.random.default_rng(seed + 1).normal(size=SIZE), 5.0, noise,
    )  # fmt: skip


def network(seed: int, noise: float = 0.05) -> Problem:
    """A ReLU network of one hidden layer on a regression: not smooth on a set of measure zero."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(EXAMPLES, INPUTS))
    y = np.sin(x @ draw.normal(size=INPUTS))
    split = INPUTS * HIDDEN

    def forward(w: Vector) -> tuple[Vector, Vector, Vector]:
        before = x @ w[:split].reshape(INPUTS, HIDDEN) + w[split : split + HIDDEN]
        after = np.maximum(before, 0)
        return before, after, after @ w[split + HIDDEN :] - y

    def gradient(w: Vector) -> Vector:
        before, after, error = forward(w)
        back = np.outer(error, w[split + HIDDEN :]) * (before > 0)
        return np.concatenate([(x.T @ back).ravel(), back.sum(0), after.T @ error]) / EXAMPLES

    start = draw.normal(size=split + 2 * HIDDEN) / np.sqrt(INPUTS)
    return Problem(
        "ReLU network", lambda w: float(np.mean(forward(w)[2] ** 2)) / 2, gradient, start, 20.0, noise
    )  # fmt: skip


def absolute(seed: int) -> Problem:
    """mean |Aw − b| with a solution: convex, Lipschitz, nowhere smooth at its minimum."""
    draw = np.random.default_rng(seed)
    a, best = draw.normal(size=(4 * SIZE, SIZE)) / np.sqrt(SIZE), draw.normal(size=SIZE)
    b = a @ best
    return Problem(
        "least absolute deviations", lambda w: float(np.mean(np.abs(a @ w - b))),
        lambda w: a.T @ np.sign(a @ w - b) / len(b), np.zeros(SIZE), np.inf, 0.05, best,
    )  # fmt: skip
