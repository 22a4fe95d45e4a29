"""Which kind of product this model gets: found by trying, once, and remembered."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from dcao_client.spectrum.batches import first_line
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.settings import MatvecKind, ProbeSettings
from dcao_client.spectrum.torch.double_backward import DoubleBackward
from dcao_client.spectrum.torch.finite_difference import STEP, FiniteDifference
from dcao_client.spectrum.torch.gauss_newton import GaussNewton
from dcao_client.spectrum.torch.kinks import KinksMovedError
from dcao_client.spectrum.torch.onednn import faster
from dcao_client.spectrum.torch.problem import Problem
from dcao_client.spectrum.vectors import norm

# A one-sided difference may differ from double backward by this much along the gradient; the top eigenvalues are then
# right to half of it, and what is worse is polished. Measured: 1e-3 to 1e-2 without batch norm, 2e-2 with it.
ACCEPT = 0.03
# Two step lengths of a network with kinks differ by a sixth or more; of a smooth one by the truncation,
# below this.
SMOOTH = 0.03
# Step lengths tried, as factors on the default one.
FACTORS = (1.0, 4.0, 16.0)
# Tighter tolerances than this need exact products.
TIGHTEST = 1e-3

# What a model's autograd says when it cannot do what is asked; anything else is a bug and is raised.
CANNOT = (RuntimeError, NotImplementedError, KinksMovedError)


Made = TypeVar("Made")


class UnavailableError(RuntimeError):
    """No kind of product works here; the text says why for each."""


@dataclass(slots=True)
class Choice:
    """What was chosen, kept in ``Probe.state_dict``; ``onednn`` is None until it has been timed."""

    kind: MatvecKind | None = None
    step: float | None = None
    error: float | None = None
    channels_last: bool = True
    onednn: bool | None = None
    reasons: dict[str, str] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        return {**asdict(self), "reasons": dict(self.reasons)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Choice:
        return cls(**{**state, "reasons": dict(state["reasons"])})


def keep_graph(problem: Problem, settings: ProbeSettings) -> bool:
    """Whether graphs are held between products."""
    return settings.graph == "keep" or (settings.graph == "auto" and len(problem.batches) == 1)


def build(problem: Problem, settings: ProbeSettings, choice: Choice) -> Curvature:
    """The curvature operator at this point, of the remembered kind or of one found now.

    Raises:
        UnavailableError: nothing works, or the one kind asked for does not.
    """
    kind = settings.matvec if settings.matvec != "auto" else choice.kind
    if kind is None:
        return _try_all(problem, settings, choice)
    if kind == "double_backward":
        return DoubleBackward(problem, keep=keep_graph(problem, settings))
    if kind == "gauss_newton":
        return GaussNewton(problem)
    if kind == "finite_difference":
        if choice.step is None and not settings.force:
            return _checked_difference(problem, settings, choice)
        return _difference(problem, choice)
    raise UnavailableError("critical sharpness has no products; the probe measures it without an operator")


def _difference(problem: Problem, choice: Choice) -> FiniteDifference:
    """Differences, computed in the faster ways that the model was not seen to forbid."""
    if choice.onednn is None:
        choice.onednn = faster()
    was = choice.channels_last, choice.onednn
    while True:
        try:
            return FiniteDifference(
                problem, step=choice.step, channels_last=choice.channels_last, onednn=bool(choice.onednn)
            )
        except RuntimeError:
            if not _plainer(choice):
                choice.channels_last, choice.onednn = was  # it was not they
                raise


def _plainer(choice: Choice) -> bool:
    """Give up one faster way of computing; False when none is left."""
    if choice.channels_last:
        choice.channels_last = False
    elif choice.onednn:
        choice.onednn = False
    else:
        return False
    return True


def _try_all(problem: Problem, settings: ProbeSettings, choice: Choice) -> Curvature:
    choice.reasons.clear()
    if problem.weights:  # else a rank without examples
        problem.first_order(0)  # a loss that has no gradient at all is the user's error, and is raised as such
    exact = _attempt(choice, "double_backward", lambda: _exact(problem, settings))
    difference = None
    if settings.rho_tol >= TIGHTEST and _single_precision(problem):
        difference = _attempt(choice, "finite_difference", lambda: _difference(problem, choice))
    if exact is not None:
        operator, unit, image = exact
        while difference is not None and _apart(operator, difference) > ACCEPT and _plainer(choice):
            # Something in the model takes the usual order for granted, and reads something else without an error.
            difference = _difference(problem, choice)
        if difference is not None and _trusted(difference, unit, image, choice):
            operator.close()
            choice.kind = "finite_difference"
            return difference
        choice.kind, choice.step = "double_backward", None
        return operator
    if difference is not None and (settings.force or _self_consistent(difference, choice)):
        choice.kind = "finite_difference"
        return difference
    newton = _attempt(choice, "gauss_newton", lambda: GaussNewton(problem))
    if newton is not None:
        choice.kind = "gauss_newton"
        return newton
    raise UnavailableError("; ".join(f"{kind}: {why}" for kind, why in choice.reasons.items()))


def _apart(one: Curvature, other: Curvature) -> float:
    """How far two gradients are from each other, in lengths of the first."""
    return norm(other.gradient - one.gradient) / (norm(one.gradient) or 1.0)


def _attempt(choice: Choice, kind: str, make: Callable[[], Made]) -> Made | None:
    try:
        return make()
    except CANNOT as error:
        choice.reasons[kind] = first_line(error)[:200] or type(error).__name__
        return None


def _exact(problem: Problem, settings: ProbeSettings) -> tuple[DoubleBackward, Tensor, Tensor]:
    """Double backward, a unit vector and its image: building succeeds where the product then fails."""
    operator = DoubleBackward(problem, keep=keep_graph(problem, settings))
    unit = _unit(operator.gradient)
    return operator, unit, operator.product(unit)


def _unit(gradient: Tensor) -> Tensor:
    length = norm(gradient)
    if length > 0.0 and bool(torch.isfinite(gradient).all()):
        return gradient / length
    return torch.full_like(gradient, gradient.numel() ** -0.5)


def _single_precision(problem: Problem) -> bool:
    return all(dtype in (torch.float32, torch.complex64) for dtype in problem.layout.dtypes)


def _calibrate(operator: FiniteDifference, unit: Tensor, image: Tensor, choice: Choice) -> float:
    """Try step lengths against a known product; keep the best. Its relative error."""
    scale = norm(image)
    if scale == 0.0:
        return float("inf")
    base, best = operator.step, (float("inf"), operator.step)
    for factor in FACTORS:
        operator.step = base * factor
        error = norm(operator.product(unit) - image) / scale
        if math.isfinite(error):
            best = min(best, (error, operator.step))
    choice.error, choice.step = best if math.isfinite(best[0]) else (None, None)
    operator.step = best[1]
    return best[0]


def _trusted(operator: FiniteDifference, unit: Tensor, image: Tensor, choice: Choice) -> bool:
    """Whether differences agree with double backward, or rather with themselves where it is wrong."""
    try:
        apart = _calibrate(operator, unit, image, choice)
        return apart <= ACCEPT or _second_derivative_is_wrong(operator, unit, apart, choice)
    except KinksMovedError as error:
        choice.reasons["finite_difference"] = str(error)
        return False


def _second_derivative_is_wrong(operator: FiniteDifference, unit: Tensor, apart: float, choice: Choice) -> bool:
    """Whether differences agree with each other and not with double backward: then it is the latter that is wrong.

    It happens without an error: autograd prunes the node by which a once-differentiable function would complain, and
    some fused operations have a second derivative that is not symmetric.
    """
    if not apart > 10 * ACCEPT or not _self_consistent(operator, choice, unit, within=ACCEPT):
        return False
    choice.reasons["double_backward"] = (
        f"differs by {apart:.0%} from differences that agree with each other: a function in the model has no second "
        "derivative, or a wrong one"
    )
    return True


def _self_consistent(
    operator: FiniteDifference, choice: Choice, unit: Tensor | None = None, within: float = SMOOTH
) -> bool:
    """Without a reference: two step lengths must agree, or the network has kinks that could not be held."""
    unit = _unit(operator.gradient) if unit is None else unit
    base = STEP[operator.problem.layout.dtype] * operator.length
    operator.central = True
    images = []
    for factor in FACTORS[1:]:
        operator.step = base * factor
        images.append(operator.product(unit))
    scale = norm(images[0])
    error = norm(images[0] - images[1]) / scale if scale > 0 else float("inf")
    operator.step = choice.step = base * FACTORS[1]
    choice.error = error if math.isfinite(error) else None
    operator.central = False
    if not error <= within:
        choice.step = None
        choice.reasons["finite_difference"] = (
            f"two step lengths disagree by {error:.0%}: the network has kinks that cannot be held; "
            "ProbeSettings(force=True) uses it all the same"
        )
        return False
    return True


def _checked_difference(problem: Problem, settings: ProbeSettings, choice: Choice) -> FiniteDifference:
    operator = _difference(problem, choice)
    if not _self_consistent(operator, choice):
        raise UnavailableError(choice.reasons["finite_difference"])
    return operator
