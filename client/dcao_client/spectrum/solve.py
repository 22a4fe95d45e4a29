"""From an operator to eigenvalues: scaling, start, solver, polish, and the second solve for the raw λ₁."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dcao_client.spectrum.arrays import Vector, arrays
from dcao_client.spectrum.basis import SLAB, Basis
from dcao_client.spectrum.lanczos import Matvec, Solve, lanczos
from dcao_client.spectrum.multiple import MOST, with_multiples
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.polish import polish
from dcao_client.spectrum.result import Outcome
from dcao_client.spectrum.ritz import Bounds
from dcao_client.spectrum.settings import ProbeSettings, StartKind
from dcao_client.spectrum.starts import start_vector
from dcao_client.spectrum.stop import Stop

# What ``start="auto"`` means. The last Ritz vectors save less than a product, and the batch sharpness, which comes free
# with the gradient, costs one (benchmarks/probe_starts.py: on images and text, the same batch and others).
AUTO: StartKind = "gradient"
# The kinds of start that use the last Ritz vectors.
WITH_HISTORY: tuple[StartKind, ...] = ("warm", "combined")


# Gives every rank the first rank's vector: bits that differ between ranks would let their Krylov spaces part.
Agree = Callable[[Vector], Vector]


@dataclass(frozen=True, slots=True)
class Eigen:
    """A solve, and what it cost in products of the operator."""

    solve: Solve
    started: StartKind


def scaled(operator: Curvature, s: Vector | None) -> Matvec:
    """v ↦ S A S v."""
    if s is None:
        return operator.product

    def product(v: Vector) -> Vector:
        w = operator.product(s * v)
        w *= s
        return w

    return product


# Products before a solve with a history may stop: what only its random part contains needs so many to be seen.
LEAST_WARM = 6
# Parameters beyond which twenty single-precision vectors (80 bytes each) are no longer a trifle.
LARGE = 16_000_000


# Parameters beyond which twenty vectors outweigh the activations of a quarter batch (small GPT: 1.18 of a training
# step's memory with sixteen vectors).
MEDIUM = 500_000


# Rows of up to this length are multiplied faster together, so many at a time; longer ones would waste memory at an
# early stop (CNN of 421 k parameters, a quarter batch: 1.2 of a training step's with twenty at once).
SHORT, SHORT_SLAB = 200_000, 8


def max_basis(operator: Curvature, settings: ProbeSettings) -> int | None:
    """Vectors held at once: by size unless the settings say."""
    n = operator.gradient.shape[0]
    if settings.max_basis is not None or settings.basis != "auto" or n <= MEDIUM:
        return settings.max_basis
    return 6 if n > LARGE else 10


def new_basis(operator: Curvature, settings: ProbeSettings) -> Basis:
    """An empty basis of the kind asked for."""
    like, kind = operator.gradient, settings.basis
    if kind == "auto":
        kind = "bf16" if like.shape[0] > LARGE else "full"
    short = max_basis(operator, settings) is None and like.shape[0] <= SHORT
    return Basis(like, kind=kind, space=operator.space, slab=SHORT_SLAB if short else SLAB)


def top(
    operator: Curvature,
    s: Vector | None,
    warm: Sequence[Vector],
    settings: ProbeSettings,
    seed: int,
    agree: Agree | None = None,
    *,
    multiples: bool = False,
) -> Eigen:
    """λ₁, λ₂ and their vectors; replicated ranks ``agree`` on the bits they start from.

    With ``multiples`` also those that no product of the start shows, up to ``MEDIUM`` parameters.
    """
    generator = arrays(operator.gradient).generator(seed)
    kind: StartKind = AUTO if settings.start == "auto" else settings.start
    gradient = operator.gradient if s is None else s * operator.gradient
    rough = operator.rough
    most = max_basis(operator, settings)
    stop = Stop(
        settings.rho_tol,
        settings.gamma_tol,
        settings.gamma_floor,
        floor=operator.floor,
        polished=rough,
        least=min(LEAST_WARM, most or LEAST_WARM) if warm and kind in WITH_HISTORY else 1,
    )
    start = start_vector(kind, gradient, warm, generator, operator.space)
    if agree is not None:
        start = agree(start)
    basis = new_basis(operator, settings)
    solve = lanczos(
        scaled(operator, s),
        start,
        max_matvecs=settings.max_matvecs,
        stop=stop,
        generator=generator,
        basis=basis,
        max_basis=most,
        want=max(2, kept(settings, operator.gradient.shape[0])),
    )
    left = min(MOST, settings.max_matvecs - solve.matvecs)
    if multiples and left > 0 and most is None and solve.outcome is not Outcome.NON_FINITE:
        fresh = Basis(operator.gradient, kind=basis.kind, space=operator.space)
        solve = with_multiples(
            scaled(operator, s), solve, basis, fresh, stop, generator=generator, most=left, agree=agree
        )
    if rough and _too_noisy(solve, stop):
        with operator.accurately():
            solve = polish(scaled(operator, s), solve, operator.floor, operator.space)
    cold = not warm or kind == "gradient"
    return Eigen(solve, "gradient" if cold and kind != "random" else kind)


def kept(settings: ProbeSettings, size: int) -> int:
    """Ritz vectors of this size to keep until the next measurement (bfloat16).

    One to track, two to go on from in a few products, where two are a trifle; for a start with history the two that are
    sought and the one below (``starts.LOWER``).
    """
    if settings.start in WITH_HISTORY:
        return 3
    return 1 if size > LARGE else 2


def raw_sharpness(operator: Curvature, settings: ProbeSettings) -> tuple[float | None, int]:
    """λ₁ of the unscaled operator, to ``rho_tol``, from the gradient; and the products it took."""
    solve = lanczos(
        operator.product,
        operator.gradient,
        max_matvecs=settings.max_matvecs,
        stop=Stop(settings.rho_tol, floor=operator.floor, gap=False),
        generator=arrays(operator.gradient).generator(settings.seed),
        basis=new_basis(operator, settings),
        max_basis=max_basis(operator, settings),
        want=0,
    )
    if solve.found is None or solve.outcome is Outcome.NON_FINITE:
        return None, solve.matvecs
    return float(solve.found.values[0]), solve.matvecs


def noise(solve: Solve) -> float:
    """The products' own error relative to the largest Ritz value, as the projected matrix's asymmetry shows it."""
    scale = solve.found.scale if solve.found is not None else 0.0
    return solve.asymmetry / scale if scale > 0 else 0.0


def _too_noisy(solve: Solve, stop: Stop) -> bool:
    """Whether the products' noise exceeds the tolerances: values were off by a third of it, by twice at most."""
    if solve.found is None or len(solve.found.values) < 2:
        return False
    noise = Bounds(solve.asymmetry, solve.asymmetry, solve.asymmetry, solve.asymmetry)
    return solve.outcome is Outcome.CONVERGED and not stop.within(solve.found, noise)
