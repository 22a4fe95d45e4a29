"""The path of a run under a user's own optimizer: r and √G from outside, and the base learning rate that they give.

Between the gradient and the update a hook takes the gradient into G; after the update another looks how far the weights
have come. The metric P is what the optimizer divides by (`spectrum.precondition`), without momentum's bias correction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao_client.hooks.path_meter import PathMeter, sketch
from dcao_client.hooks.shape import Shape
from dcao_client.spectrum.torch.precondition import rule
from dcao_proto import Path

# Momentum answers a rate over 1/(1−β) steps, so the rate grows by no more than e in that time. Measured on a post-LN
# language model under AdamW, β₁ = 0.9: 1.1 a step 1.89, 1.05 1.98, 1.2 and beyond lost (docs/policies.md).
LEAST_GROWTH = 0.05
# Below a rate that the user has set there is less to fear, and a short run has no time for that: on the same model, at
# the tuned rate, 1.1 a step costs .14 and 2 a step .01. Not under SGD: there a CNN was lost at 8 times the tuned rate.
GUARDED_GROWTH = 1.0
# A rate below this share of r/√G moves nothing; growing from there takes 145 steps at β = 0.9, from a rate of 1e-300
# it would take 7,000.
LEAST_LEVEL = 2.0**-20


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
        self._metric = None if self._how is None else self._flat_metric(parameters)
        self.meter.saw(self.meter.flat([p.grad for p in parameters]), self._metric, scale=self._loss_scale())
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

    def _flat_metric(self, parameters: list[nn.Parameter]) -> Tensor:
        """P on the meter's sketch: every rule works entry by entry, so a sketch of its input will do."""
        assert self._how is not None  # noqa: S101  (the caller looked)
        groups = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}
        whole = callable(getattr(type(self._optimizer), "preconditioner", None))  # such a one knows whole tensors only
        found = []
        for parameter, stride in zip(parameters, self.meter.strides, strict=True):
            group = groups[id(parameter)]
            state = self._optimizer.state.get(parameter, {})
            gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            if whole:
                P = sketch(self._how(parameter, state, group, gradient.double()), stride)
            else:
                state = {n: sketch(v, stride) if _is_like(v, parameter) else v for n, v in state.items()}
                P = self._how(parameter, state, group, sketch(gradient, stride).double())
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


def bias(state: dict[str, Any], group: dict[str, Any]) -> float:
    """Momentum's bias correction 1 − β₁ᵗ at the coming step, which `precondition` folds into P; 1 without one."""
    if "betas" not in group:
        return 1.0
    return float(1.0 - float(group["betas"][0]) ** (float(state.get("step", 0)) + 1.0)) or 1.0


def _is_like(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape and value.dim() > 0
