"""One measurement on an operator: what is asked, and the spectrum it becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dcao_client.spectrum.arrays import Vector, arrays
from dcao_client.spectrum.lanczos import Solve
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.result import Directional, Outcome, Spectrum, Status, finite
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.solve import Agree, Eigen, noise, raw_sharpness, scaled, top

# Slope and curvature along an update, the same per group, and the products it took.
Along = Callable[[Curvature], tuple[Directional | None, tuple[Directional, ...], int]]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an operator.

    Attributes:
        scaling: P^-½ where the curvature is wanted preconditioned.
        warm: the last top vectors.
        agree: makes the start the same on replicated ranks.
        along: what is wanted along an update.
        multiples: look for eigenvalues that the gradient cannot show, too (``spectrum.multiple``).
    """

    settings: ProbeSettings
    scaling: Callable[[Curvature], Vector] | None
    warm: Sequence[Vector]
    seed: int
    agree: Agree | None = None
    along: Along | None = None
    multiples: bool = False


# Measurements of which one looks for multiples, the first among them: three to eight products more for it, half a
# product on average. Symmetry, where they come from, outlasts a training step: the gradient has it, too.
LOOK_EVERY = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """The spectrum, the top vectors (empty when there are none), the products' own error, and ``Solve.multiple``."""

    spectrum: Spectrum
    vectors: tuple[Vector, ...] = ()
    error: float = 0.0
    multiple: bool = False


@dataclass(frozen=True, slots=True)
class Posed:
    """What is known of a point before any product: what to say of it, P^-½ if asked for, and ‖g‖."""

    said: dict[str, Any]
    scaling: Vector | None
    length: float


def basics(operator: Curvature, question: Question) -> dict[str, Any]:
    """What the operator says without a product; None where it is not finite."""
    return {
        "matvec": operator.kind,
        "preconditioned": question.scaling is not None,
        "loss": finite(operator.loss),
        "grad_norm": finite(operator.space.norm(operator.gradient)),
    }


def described(operator: Curvature, question: Question) -> Posed | None:
    """The point, or None when its loss, its gradient or its preconditioner is not finite."""
    said = basics(operator, question)
    length = said["grad_norm"]
    if length is None or said["loss"] is None:
        return None
    s = None if question.scaling is None else question.scaling(operator)
    if s is not None and not operator.space.norm(s) > 0.0:
        return None
    return Posed(said, s, length)


def measure(operator: Curvature, question: Question) -> Answer:
    """λ₁, λ₂ and everything that comes with them."""
    posed = described(operator, question)
    if posed is None:
        return diverged(basics(operator, question))
    said, s, length = posed.said, posed.scaling, posed.length
    eigen = top(
        operator, s, question.warm, question.settings, question.seed, question.agree, multiples=question.multiples
    )
    solve = eigen.solve
    said["matvecs"] = solve.matvecs
    if solve.outcome is Outcome.NON_FINITE or solve.found is None or solve.error is None:
        return diverged(said)
    said["memory"] = solve.peak_bytes
    if length > 0.0:
        _besides(operator, question, eigen, s, length, said)
    return Answer(_spectrum(solve, said), solve.vectors, noise(solve), solve.multiple)


def _besides(
    operator: Curvature, question: Question, eigen: Eigen, s: Vector | None, length: float, said: dict[str, Any]
) -> None:
    """Batch sharpness (free when the solve started from the raw gradient), directions, the raw λ₁."""
    if s is None and eigen.started == "gradient":
        said["batch_sharpness"] = None if eigen.solve.first is None else finite(eigen.solve.first)
    else:
        unit = operator.gradient / length
        said["batch_sharpness"] = finite(operator.space.dot(unit, operator.product(unit)))
        said["matvecs"] += 1
    if question.along is not None:
        said["directional"], said["groups"], spent = question.along(operator)
        said["matvecs"] += spent
    if s is not None and question.settings.raw:
        said["raw_rho"], spent = raw_sharpness(operator, question.settings)
        said["matvecs"] += spent


def track(operator: Curvature, question: Question) -> Spectrum:
    """The Rayleigh quotient of the last top vector."""
    space = operator.space
    s = None if question.scaling is None else question.scaling(operator)
    vector = arrays(operator.gradient).cast(question.warm[0], operator.gradient)
    vector = vector / space.norm(vector)
    quotient = finite(space.dot(vector, scaled(operator, s)(vector)))
    status: Status = "diverged" if quotient is None else "ok"
    return Spectrum(
        status,
        rho=quotient,
        loss=finite(operator.loss),
        grad_norm=finite(space.norm(operator.gradient)),
        matvecs=1,
        matvec=operator.kind,
        preconditioned=question.scaling is not None,
    )


def diverged(said: dict[str, Any]) -> Answer:
    """The answer where something is not finite."""
    return Answer(_ended(Outcome.NON_FINITE, "diverged", said))


def _ended(outcome: Outcome, status: Status, said: dict[str, Any]) -> Spectrum:
    return Spectrum(status, outcome, detail=outcome.sentence, **said)


def _spectrum(solve: Solve, said: dict[str, Any]) -> Spectrum:
    assert solve.found is not None  # noqa: S101  (``measure`` looked)
    assert solve.error is not None  # noqa: S101
    theta, error = solve.found.values, solve.error
    if len(theta) < 2:
        return _ended(Outcome.BREAKDOWN, "breakdown", said | {"rho": float(theta[0]), "rho_bound": error.rho})
    return Spectrum(
        "ok",
        solve.outcome,
        rho=float(theta[0]),
        gamma=max(0.0, float(theta[0] - theta[1])),
        rho_bound=finite(error.rho),
        gamma_bound=finite(error.gamma),
        lambda_min=float(theta[-1]),
        lambda_min_bound=finite(error.minimum),
        **said,
    )
