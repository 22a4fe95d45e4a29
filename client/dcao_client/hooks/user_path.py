"""The path of a run under a user's own optimizer: r and √G from outside, and the base learning rate that they give.

Between the gradient and the update a hook takes the gradient into G; after the update another looks how far the weights
have come. The metric P is what the optimizer divides by (`spectrum.precondition`), without momentum's bias correction.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao_client.hooks.path import GUARDED_GROWTH, LEAST_GROWTH, LEAST_LEVEL
from dcao_client.hooks.path_meter import PathMeter, sketch
from dcao_client.hooks.shape import Shape
from dcao_client.spectrum.torch.precondition import Rule, rule
from dcao_proto import Path


class UserPath:
    """Follows the parameters of an optimizer.

    Args:
        optimizer: read, never written.
        guarded: the rate stays below the user's own.
    """

    def __init__(self, optimizer: Optimizer, *, guarded: bool = False) -> None:
        self._optimizer = optimizer
        self._how = rule(optimizer)
        averaged = self._how is not None and "betas" in optimizer.param_groups[0]
        self._least_growth = GUARDED_GROWTH if guarded and averaged else LEAST_GROWTH
        self._metric: Tensor | None = None
        self.meter = PathMeter(self._parameters())
        self.shape = Shape()
        self.level = 0.0  # of the last update, as it was used
        self._shape_now = 1.0

    def before(self, lr: float, beta: float, first_rate: float | None) -> float:
        """Takes a step's gradients into G.

        Args:
            lr: what the user's schedule says, of the main group.
            beta: momentum, on whose horizon the rate may grow.
            first_rate: where the path starts, as a value of r/√G; None if no curvature says.

        Returns:
            The base learning rate: shape · r/√G; it grows on the momentum's horizon, or twofold a step.
        """
        parameters = self._parameters()
        self.meter.cover(parameters)
        moving = any(p.grad is not None for p in parameters)
        gradients = self.meter.flat([p.grad for p in parameters])
        self._metric = None if self._how is None else self._flat_metric(self._how, parameters, gradients)
        self.meter.saw(gradients, self._metric, scale=self._loss_scale())
        self._shape_now = self.shape.follow(lr)
        if not moving or self.meter.squares <= 0:
            return 0.0
        if self.level == 0.0:
            self.meter.start(first_rate, self._metric)
            self.level = self.meter.level
        else:
            self.level = min(self.meter.level, self.level * (1.0 + max(1.0 - beta, self._least_growth)))
        return self._shape_now * self.level

    def after(self, share: float) -> None:
        """Looks where the update has led.

        Args:
            share: the rate in use over the one that was pushed for, in (0, 1]: growth goes on from what was used.
        """
        self.level = max(self.level * share, LEAST_LEVEL * self.meter.level) if share > 0 else 0.0
        self.meter.came(self.meter.flat(self._parameters(), lasting="weights"), self._metric)
        self._metric = None

    def base(self, lr: float) -> float:
        """The base learning rate as of now, for an observation between updates."""
        return self.level * self.shape.now(lr)

    def path(self, lr: float, *, most: float | None) -> Path:
        """For the wire; `lr` is what the user's schedule says now, `most` what may not be exceeded."""
        meter = self.meter
        return Path(
            distance=meter.distance, gradients=meter.gradients, steps=meter.steps, shape=self.shape.now(lr), most=most
        )

    def _parameters(self) -> list[nn.Parameter]:
        every = [p for group in self._optimizer.param_groups for p in group["params"]]
        return [p for p in every if not nn.parameter.is_lazy(p)]  # those have no value before the first forward

    def _loss_scale(self) -> float:
        """What fused optimizers still have to divide gradients by (torch.amp.GradScaler leaves it to them)."""
        scale = getattr(self._optimizer, "grad_scale", None)
        return float(scale) if scale is not None else 1.0

    def _flat_metric(self, how: Rule, parameters: list[nn.Parameter], gradients: Tensor) -> Tensor:
        """P on the meter's sketch: every rule works entry by entry, so one call does for all that share its numbers."""
        groups = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}
        states = [self._optimizer.state.get(p, {}) for p in parameters]
        if callable(getattr(type(self._optimizer), "preconditioner", None)):  # such a one knows whole tensors only
            return self._metric_of_each(how, parameters, states, groups)
        steps = _steps(states)
        moments = {
            name: self.meter.flat([state.get(name) for state in states], lasting=name)
            for name in {n for state, p in zip(states, parameters, strict=True) for n in state if _is_like(state[n], p)}
        }
        found, at = [], 0
        alike = zip(parameters, steps, self.meter.sizes, strict=True)
        for _, run in itertools.groupby(alike, key=lambda each: (id(groups[id(each[0])]), each[1])):
            members = list(run)
            parameter, step, _ = members[0]
            end = at + sum(size for *_, size in members)
            state, group = {"step": step, **{n: m[at:end] for n, m in moments.items()}}, groups[id(parameter)]
            found.append(how(parameter, state, group, gradients[at:end]) / bias(state, group))
            at = end
        return torch.cat(found) if len(found) > 1 else found[0]

    def _metric_of_each(
        self, how: Rule, parameters: list[nn.Parameter], states: list[dict[str, Any]], groups: dict[int, Any]
    ) -> Tensor:
        found = []
        for parameter, state, stride in zip(parameters, states, self.meter.strides, strict=True):
            gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            group = groups[id(parameter)]
            P = sketch(how(parameter, state, group, gradient.double()), stride)
            found.append((P / bias(state, group)).float())
        return torch.cat(found)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"meter": self.meter.state_dict(), "shape": self.shape.state_dict(), "level": self.level}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.meter.cover(self._parameters())
        self.meter.load_state_dict(state["meter"])
        self.shape.load_state_dict(state["shape"])
        self.level = float(state["level"])


def _steps(states: list[dict[str, Any]]) -> list[float]:
    """How many updates each has had, in one transfer where they are tensors; 0 before the first."""
    given = [state.get("step", 0) for state in states]
    if given and all(isinstance(step, Tensor) for step in given):
        return [float(step) for step in torch.stack([step.reshape(()) for step in given]).tolist()]
    return [float(step) for step in given]


def bias(state: dict[str, Any], group: dict[str, Any]) -> float:
    """Momentum's bias correction 1 − β₁ᵗ at the coming step, which `precondition` folds into P; 1 without one."""
    if "betas" not in group:
        return 1.0
    return float(1.0 - float(group["betas"][0]) ** (float(state.get("step", 0)) + 1.0)) or 1.0


def _is_like(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape and value.dim() > 0
