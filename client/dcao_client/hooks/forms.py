"""What an update is made of: the forms of schedule-free steps. Muon's is in `muon.py`.

    sgd     d = g                                           P = 1
    adam    d = g/P     v ← β₂v + (1−β₂)g²                  P = √(v/(1−β₂ᵗ)) + ε

d is the update and P the metric in which it is a gradient. r, √G and λ₁ are measured in P, whatever the form.

References:
    Kingma & Ba 2015, "Adam", algorithm 1 (without its momentum, which averaging replaces).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from dcao_client.hooks.path_meter import PathMeter
from dcao_proto.optimizers import OptimizerName

FormName = Literal["sgd", "adam", "muon"]
Tensors = list[Tensor] | tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Update:
    """d of each parameter, as factor · over / under; `under` None is 1. Unmade, for the kernels that divide and add."""

    over: Tensors
    under: Tensors | None = None
    factor: float = 1.0

    def part(self, which: slice) -> Update:
        """Of some of the parameters."""
        return Update(self.over[which], None if self.under is None else self.under[which], self.factor)


class Form(Protocol):
    """One way to make an update of gradients.

    Of each parameter it keeps a moment, under `name_of`; lists of moments, gradients and parameters are in one order.
    `updates` counts the coming update too, from 1 on.

    Attributes:
        optimizer: its name on the wire.
        preconditioned: False where P = 1.
    """

    optimizer: OptimizerName
    preconditioned: bool

    def admit(self, group: dict[str, Any]) -> None:
        """A group of parameters is added, with its own "form" or None.

        Raises:
            ValueError: the form cannot do with it; the message says what to do.
        """
        ...

    def name_of(self, parameter: Tensor) -> str | None:
        """Under which name the optimizer's state has the parameter's moment; None if it keeps none."""
        ...

    def begin(self, parameter: Tensor, gradient: Tensor, past: int) -> Tensor | None:
        """The moment at the first gradient, after `past` updates of the others.

        One that comes late has its first gradient as its past: the bias correction is everybody's, and of a zero it
        would make a step of one over the root of what is missing.
        """
        ...

    def take(self, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int) -> None:
        """Takes the gradients into the moments, in place."""
        ...

    def update(self, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int) -> Update:
        """d, after `take`."""
        ...

    def preconditioner(self, parameter: Tensor, moment: Tensor, gradient: Tensor, updates: int) -> Tensor:
        """P of a parameter after `take`, entry by entry, > 0."""
        ...

    def on_sketch(
        self, meter: PathMeter, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int
    ) -> tuple[Tensor, Tensor | None]:
        """P·d and P of the coming update on the meter's sketch, before `take`; P None where it is 1."""
        ...


def only(form: FormName, group: dict[str, Any]) -> None:
    """A group may say the form that everything has.

    Raises:
        ValueError: it says another.
    """
    if group["form"] not in (None, form):
        raise ValueError(
            f"expected the group's form to be that of the optimizer, '{form}', got {group['form']!r}; only under form "
            "'muon' may groups differ ('muon' or 'adam')"
        )


class Sgd:
    """d = g."""

    optimizer: OptimizerName = "schedule_free_sgd"
    preconditioned = False

    def admit(self, group: dict[str, Any]) -> None:
        only("sgd", group)

    def name_of(self, parameter: Tensor) -> None:
        return None

    def begin(self, parameter: Tensor, gradient: Tensor, past: int) -> None:
        return None

    def take(self, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int) -> None:
        """Nothing is kept."""

    def update(self, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int) -> Update:
        return Update(gradients)

    def preconditioner(self, parameter: Tensor, moment: Tensor, gradient: Tensor, updates: int) -> Tensor:
        return torch.ones_like(gradient)

    def on_sketch(
        self, meter: PathMeter, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int
    ) -> tuple[Tensor, None]:
        return meter.flat(gradients), None


class Adam:
    """d = g/(√v̂ + ε).

    Args:
        beta2, eps: β₂ and ε.
    """

    optimizer: OptimizerName = "schedule_free_adam"
    preconditioned = True

    def __init__(self, beta2: float, eps: float) -> None:
        self.beta2, self.eps = beta2, eps

    def admit(self, group: dict[str, Any]) -> None:
        only("adam", group)

    def name_of(self, parameter: Tensor) -> str:
        return "exp_avg_sq"

    def begin(self, parameter: Tensor, gradient: Tensor, past: int) -> Tensor:
        return gradient.square().mul_(1.0 - self.beta2**past)

    def take(self, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int) -> None:
        torch._foreach_mul_(moments, self.beta2)
        torch._foreach_addcmul_(moments, gradients, gradients, value=1.0 - self.beta2)

    def update(self, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int) -> Update:
        correction = math.sqrt(1.0 - self.beta2**updates)  # g/(√v/k + ε) = k·g/(√v + k·ε)
        roots = torch._foreach_sqrt(moments)
        torch._foreach_add_(roots, correction * self.eps)
        return Update(gradients, roots, correction)

    def preconditioner(self, parameter: Tensor, moment: Tensor, gradient: Tensor, updates: int) -> Tensor:
        return (moment / (1.0 - self.beta2**updates)).sqrt().add_(self.eps)

    def on_sketch(
        self, meter: PathMeter, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int
    ) -> tuple[Tensor, Tensor]:
        g = meter.flat(gradients)
        v = meter.flat(moments, lasting="moments")
        v.mul_(self.beta2).addcmul_(g, g, value=1.0 - self.beta2)
        return g, v.div_(1.0 - self.beta2**updates).sqrt_().add_(self.eps)
