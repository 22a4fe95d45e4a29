"""Critical sharpness: curvature along a direction from forward passes alone.

λ_c = 2/η_c, where η_c is the smallest step along an update that makes the loss larger than it is
(arXiv:2601.16979). On a quadratic loss and along −g, λ_c is exactly gᵀHg/gᵀg. It bounds no eigenvalue: use
it where no gradient may be taken twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dcao_client.spectrum.result import Outcome, Spectrum
from dcao_client.spectrum.torch.problem import Problem
from dcao_client.spectrum.vectors import norm

# Forward passes allowed: bracketing doubles or halves, then bisection in log η to 2^(1/8), i.e. λ_c to 9 %.
FORWARDS = 24
SPLITS = 3


@dataclass(frozen=True, slots=True)
class Critical:
    """λ_c (None when no step up to 2²⁴ first guesses raised the loss) and the forward passes it took."""

    sharpness: float | None
    step: float | None
    forwards: int


def critical_sharpness(rises: Callable[[float], bool], guess: float) -> Critical:
    """Find the smallest step that raises the loss, by bracketing from ``guess`` and bisection in log step.

    Args:
        rises: step ↦ whether L(w + step·u) > L(w) or is not finite.
        guess: a first step > 0, e.g. the last critical one: then five to six passes suffice.

    >>> round(critical_sharpness(lambda s: s > 0.5, 0.4).sharpness, 1)
    4.0
    """
    if not (math.isfinite(guess) and guess > 0):
        raise ValueError(f"expected a first step that is positive and finite; got {guess}")
    step, forwards = guess, 1
    up = rises(step)
    below, above = (0.0, step) if up else (step, math.inf)
    while forwards < FORWARDS and (below == 0.0 or above == math.inf):
        step = step / 2 if up else step * 2
        forwards += 1
        if rises(step):
            above = step
            up = True if below == 0.0 else up
        else:
            below = step
    if below == 0.0 or above == math.inf:
        return Critical(None, None, forwards)
    for _ in range(SPLITS):
        middle = math.sqrt(below * above)
        forwards += 1
        below, above = (below, middle) if rises(middle) else (middle, above)
    step = math.sqrt(below * above)
    return Critical(2.0 / step, step, forwards)


def critical_along_gradient(problem: Problem, guess: float | None) -> tuple[float, float, Critical] | None:
    """Loss, gradient norm and λ_c along −g; None when the loss or its gradient is not finite.

    One first-order gradient and then forward passes, each on weights shifted in the borrowed model only.
    """
    layout = problem.layout
    total = torch.zeros(layout.size + 1, dtype=layout.dtype, device=layout.device)
    for index, weight in enumerate(problem.weights):
        value, gradients = problem.first_order(index)
        total.add_(layout.flatten([*gradients, value]), alpha=weight)
    problem.collective.sum_(total)
    loss, length = float(total[-1]), norm(total[:-1])
    if not (math.isfinite(loss) and math.isfinite(length)):
        return None
    if length == 0.0:
        return loss, length, Critical(None, None, 0)
    points = [p.detach() for p in problem.parameters]
    pieces = layout.unflatten(total[:-1])

    def rises(step: float) -> bool:
        for alias, point, piece in zip(problem.parameters, points, pieces, strict=True):
            alias.data = point.add(piece, alpha=-step)
        with torch.no_grad():
            local = sum(w * float(problem.value(i)) for i, w in enumerate(problem.weights))
        there = torch.tensor([local], dtype=torch.float64, device=layout.device)
        problem.collective.sum_(there)
        return not float(there) <= loss

    try:
        # A step to the zero of a linear loss: only a first guess.
        return loss, length, critical_sharpness(rises, guess or max(abs(loss), 1e-6) / length**2)
    finally:
        for alias, point in zip(problem.parameters, points, strict=True):
            alias.data = point


def critical(found: tuple[float, float, Critical] | None) -> Spectrum:
    """The spectrum of a forward-only measurement: ``rho`` is the critical sharpness, there is no gap."""
    if found is None:
        return Spectrum("diverged", Outcome.NON_FINITE, matvec="critical", detail=Outcome.NON_FINITE.sentence)
    loss, length, result = found
    if result.sharpness is None:
        detail = "no step along the gradient raises the loss: it is flat or unbounded here"
        return Spectrum("breakdown", loss=loss, grad_norm=length, matvec="critical", detail=detail)
    return Spectrum("ok", rho=result.sharpness, loss=loss, grad_norm=length, matvec="critical", matvecs=result.forwards)
