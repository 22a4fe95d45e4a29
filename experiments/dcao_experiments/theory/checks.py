"""Propositions 1 and 2 of the proposal, and the regret of the path rate, measured and fitted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.stats import spearmanr

from dcao_client.spectrum.lanczos_plain import lanczos_plain
from dcao_experiments.theory.problems import Problem, Vector, absolute, network, quadratic, waves
from dcao_proto.policy.laws import ATANH_HALF, LN2, exponential, gap_gain

BOUNDS = (0.5, 2.0)  # §2.3
FIRST = 100  # the length at which η₀ is 1/L; it falls with √T, as the proposition needs
PUSH = 2.5  # of the path law, docs/policies.md
SEEDS = (0, 1, 2)


def schedule(length: int, c: float = 1.0) -> tuple[int, int]:
    """T_c = ⌈c√T⌉ and m = ⌈c log T⌉, proposition 1."""
    return math.ceil(c * math.sqrt(length)), math.ceil(c * math.log(length))


def mean_squared_gradient(problem: Problem, length: int, seed: int, *, law: bool = True) -> float:
    """(1/T) Σ‖∇L(θₜ)‖² of SGD under f(ρ), probed at proposition 1's schedule; without the law f is 1."""
    draw = np.random.default_rng(seed)
    interval, products = schedule(length)
    rate = 1 / problem.smoothness * min(1.0, math.sqrt(FIRST / length))
    w, f, reference, total = problem.start.copy(), 1.0, None, 0.0
    for step in range(length):
        if law and step % interval == 0:
            rho = ritz_value(problem, w, products, draw)
            reference = reference or max(rho, 1e-3 * problem.smoothness)
            f = min(max(exponential(rho, reference, LN2 / reference), BOUNDS[0]), BOUNDS[1])
        gradient = problem.gradient(w)
        total += float(gradient @ gradient)
        w = w - rate * f * (gradient + problem.noise * draw.normal(size=len(w)))
    return total / length


def ritz_value(problem: Problem, w: Vector, products: int, draw: np.random.Generator) -> float:
    """λ₁ by m steps of Lanczos from a random vector, §2.2."""
    found = lanczos_plain(
        lambda v: problem.product(w, v), draw.normal(size=len(w)), products, reorthogonalise=True
    )  # fmt: skip
    return float(found[0])


@dataclass(frozen=True)
class Rate:
    """How a quantity falls with T.

    Attributes:
        slope: of its logarithm over log T, least squares.
        c1, c2: of C₁ log T/√T + C₂/T, least squares of relative errors with both ≥ 0.
        worst: largest relative error of that fit.
    """

    values: dict[int, float]
    slope: float
    c1: float
    c2: float
    worst: float


def fitted(values: dict[int, float]) -> Rate:
    """The slope and the proposition's two terms.

    Raises:
        ValueError: fewer than two lengths, or a value that is not positive.
    """
    if len(values) < 2 or min(values.values()) <= 0:
        raise ValueError(f"expected positive values at two lengths or more; got {values}")
    lengths, seen = np.array(list(values), dtype=float), np.array(list(values.values()))
    slope = float(np.polyfit(np.log(lengths), np.log(seen), 1)[0])
    terms = np.stack([np.log(lengths) / np.sqrt(lengths), 1 / lengths], 1)
    (c1, c2), _ = nnls(terms / seen[:, None], np.ones(len(seen)))
    worst = float(np.max(np.abs(terms @ np.array([c1, c2]) / seen - 1)))
    return Rate(values, slope, float(c1), float(c2), worst)


def convergence(make: Callable[[int], Problem], lengths: Sequence[int], *, law: bool = True) -> Rate:
    """Proposition 1 on one kind of problem, mean over seeds."""
    return fitted({
        length: float(np.mean([mean_squared_gradient(make(s), length, s, law=law) for s in SEEDS]))
        for length in lengths
    })  # fmt: skip


def alignment(problem: Problem, seed: int, steps: int = 300, *, law: bool = True) -> list[tuple[float, float]]:
    """γ and |cos(update, v₁)| along SGD with momentum, under g(γ) or at β₀ = .9; exact eigenvectors."""
    draw = np.random.default_rng(seed)
    w, velocity, reference = problem.start.copy(), np.zeros_like(problem.start), None
    found, every = [], 5
    for step in range(steps):
        if step % every == 0:
            values, vectors = np.linalg.eigh(problem.hessian(w))
            gap, top = float(values[-1] - values[-2]), vectors[:, -1]
        reference = reference or max(gap, 1e-9)
        g = min(max(gap_gain(gap, reference, ATANH_HALF / reference), BOUNDS[0]), BOUNDS[1]) if law else 1.0
        velocity = min(0.9 * g, 0.99) * velocity + problem.gradient(w) + problem.noise * draw.normal(size=len(w))
        w = w - 0.1 / problem.smoothness * velocity
        length = float(np.linalg.norm(velocity))
        if step % every == 0 and length > 0:
            found.append((gap, abs(float(velocity @ top)) / length))
    return found


@dataclass(frozen=True)
class Aligned:
    """Spearman's correlation of γ with the alignment, its p-value, and the mean alignment with and without g."""

    correlation: float
    p: float
    with_law: float
    without: float


def implicit_bias() -> Aligned:
    """Proposition 2 on quadratics of ten gaps and on networks."""
    problems = [quadratic(s, gap) for s in SEEDS for gap in np.geomspace(0.05, 9.0, 10)] + [network(s) for s in SEEDS]
    pairs = [p for i, problem in enumerate(problems) for p in alignment(problem, i)]
    plain = [p for i, problem in enumerate(problems) for p in alignment(problem, i, law=False)]
    correlation, p = spearmanr([gap for gap, _ in pairs], [cosine for _, cosine in pairs])
    return Aligned(
        float(correlation), float(p), float(np.mean([c for _, c in pairs])), float(np.mean([c for _, c in plain]))
    )


def path_gap(problem: Problem, length: int, seed: int, push: float = PUSH) -> float:
    """f(x) − f(w*) after T steps of schedule-free SGD at the path rate s·r/√G, without a ceiling.

    Raises:
        ValueError: the problem's minimum is not known.
    """
    if problem.minimum is None:
        raise ValueError(f"expected a problem whose minimum is known; got {problem.name}")
    draw = np.random.default_rng(seed)
    z = x = problem.start.copy()
    came, squares = 1e-6 * (1 + float(np.linalg.norm(x))), 0.0
    for step in range(length):
        y = 0.1 * z + 0.9 * x
        gradient = problem.gradient(y) + problem.noise * draw.normal(size=len(x))
        squares += float(gradient @ gradient)
        z = z - push * came / math.sqrt(squares) * gradient
        x = x + (z - x) / (step + 1)
        came = max(came, float(np.linalg.norm(x - problem.start)))
    return problem.value(x) - problem.value(problem.minimum)


def regret(make: Callable[[int], Problem], lengths: Sequence[int]) -> Rate:
    """How the path rate's gap falls with T: T^−½ is optimal for convex Lipschitz problems with noise."""
    return fitted({
        length: max(float(np.mean([path_gap(make(s), length, s) for s in SEEDS])), 1e-300) for length in lengths
    })  # fmt: skip


def report(longest: int) -> str:
    """All three as Markdown."""
    lengths = [n for n in (100, 316, 1000, 3162, 10_000, 31_623, 100_000) if n <= longest]
    header = ["problem", "law", *(f"T = {n}" for n in lengths), "slope", "C₁", "C₂", "worst error of the fit"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for make in (quadratic, waves, network):
        lines += [_row(make(0).name, "f(ρ)", convergence(make, lengths))]
        lines += [_row(make(0).name, "none", convergence(make, lengths, law=False))]
    lines += [_row(make(0).name, "path rate, f(x) − f(w*)", regret(make, lengths)) for make in (absolute, quadratic)]
    bias = implicit_bias()
    return "\n".join([
        *lines, "",
        f"γ against |cos(update, v₁)|: Spearman {bias.correlation:+.2f} (p = {bias.p:.1g}); mean alignment "
        f"{bias.with_law:.3f} under g(γ), {bias.without:.3f} at a constant momentum.",
    ])  # fmt: skip


def _row(name: str, law: str, rate: Rate) -> str:
    cells = [f"{v:.3g}" for v in rate.values.values()]
    said = [name, law, *cells, f"{rate.slope:+.2f}", f"{rate.c1:.3g}", f"{rate.c2:.3g}", f"{rate.worst:.0%}"]
    return "| " + " | ".join(said) + " |"
