"""One measurement on an operator: what is asked, and the spectrum it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dcao_client.spectrum.lanczos import Solve
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.result import Outcome, Spectrum, Status, finite
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.solve import Eigen, noise, raw_sharpness, scaled, top
from dcao_client.spectrum.torch.along import Along, directional
from dcao_client.spectrum.torch.critical import Critical
from dcao_client.spectrum.torch.precondition import scaling
from dcao_client.spectrum.torch.problem import Collective
from dcao_client.spectrum.torch.sharded import local
from dcao_client.spectrum.vectors import Layout


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an operator.

    Attributes:
        real: the model's own parameters, as the optimizer knows them.
        optimizer: set when the curvature is wanted preconditioned, or groups apart.
        collective: of replicated ranks, None for one process or sharded vectors.
    """

    settings: ProbeSettings
    real: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer | None
    preconditioned: bool
    warm: Sequence[Tensor]
    seed: int
    collective: Collective | None
    along: Along | None = None

    def scaling(self, operator: Curvature) -> Tensor | None:
        """P^-½, or None where the raw matrix is asked for."""
        if not self.preconditioned or self.optimizer is None:
            return None
        return scaling(self.optimizer, self.real, operator.gradient, Layout([local(p) for p in self.real]))


@dataclass(frozen=True, slots=True)
class Answer:
    """The spectrum, the top vectors (empty when there are none), and the products' own relative error."""

    spectrum: Spectrum
    vectors: tuple[Tensor, ...] = ()
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class Posed:
    """What is known of a point before any product: what to say of it, P^-½ if asked for, and ‖g‖."""

    said: dict[str, Any]
    scaling: Tensor | None
    length: float


def basics(operator: Curvature, question: Question) -> dict[str, Any]:
    """What the operator says without a product; None where it is not finite."""
    return {
        "matvec": operator.kind,
        "preconditioned": question.preconditioned,
        "loss": finite(operator.loss),
        "grad_norm": finite(operator.space.norm(operator.gradient)),
    }


def described(operator: Curvature, question: Question) -> Posed | None:
    """The point, or None when its loss, its gradient or its preconditioner is not finite."""
    said = basics(operator, question)
    length = said["grad_norm"]
    if length is None or said["loss"] is None:
        return None
    s = question.scaling(operator)
    if s is not None and not operator.space.norm(s) > 0.0:
        return None
    return Posed(said, s, length)


def measure(operator: Curvature, question: Question) -> Answer:
    """λ₁, λ₂ and everything that comes with them."""
    posed = described(operator, question)
    if posed is None:
        return diverged(basics(operator, question))
    said, s, length = posed.said, posed.scaling, posed.length
    eigen = top(operator, s, question.warm, question.settings, question.seed, question.collective)
    solve = eigen.solve
    said["matvecs"] = solve.matvecs
    if solve.outcome is Outcome.NON_FINITE or solve.found is None or solve.error is None:
        return diverged(said)
    said["memory"] = solve.peak_bytes
    if length > 0.0:
        _besides(operator, question, eigen, s, length, said)
    return Answer(_spectrum(solve, said), solve.vectors, noise(solve))


def _besides(
    operator: Curvature, question: Question, eigen: Eigen, s: Tensor | None, length: float, said: dict[str, Any]
) -> None:
    """Batch sharpness (free when the solve started from the raw gradient), directions, the raw λ₁."""
    if s is None and eigen.started == "gradient":
        said["batch_sharpness"] = None if eigen.solve.first is None else finite(eigen.solve.first)
    else:
        unit = operator.gradient / length
        said["batch_sharpness"] = finite(operator.space.dot(unit, operator.product(unit)))
        said["matvecs"] += 1
    if question.along is not None:
        along = directional(operator, question.along, question.real, question.optimizer)
        said["directional"], said["groups"], spent = along
        said["matvecs"] += spent
    if s is not None and question.settings.raw:
        said["raw_rho"], spent = raw_sharpness(operator, question.settings)
        said["matvecs"] += spent


def track(operator: Curvature, question: Question) -> Spectrum:
    """The Rayleigh quotient of the last top vector."""
    s, space = question.scaling(operator), operator.space
    vector = question.warm[0].to(operator.gradient)
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
        preconditioned=question.preconditioned,
    )


def critical(found: tuple[float, float, Critical] | None) -> Spectrum:
    """The spectrum of a forward-only measurement: ``rho`` is the critical sharpness, there is no gap."""
    if found is None:
        return Spectrum("diverged", Outcome.NON_FINITE, matvec="critical", detail=Outcome.NON_FINITE.sentence)
    loss, length, result = found
    if result.sharpness is None:
        detail = "no step along the gradient raises the loss: it is flat or unbounded here"
        return Spectrum("breakdown", loss=loss, grad_norm=length, matvec="critical", detail=detail)
    return Spectrum("ok", rho=result.sharpness, loss=loss, grad_norm=length, matvec="critical", matvecs=result.forwards)


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
