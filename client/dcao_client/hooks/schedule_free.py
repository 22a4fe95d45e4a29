"""Schedule-free steps at a rate set from outside: the mathematics of `DCAO`, without controller and probe.

    y = (1−b)·z + b·x              the model holds y while it trains; the gradient g is taken there
    z ← z − η·(d + λ·y)            d = g (sgd) or g/P, P = √v̂ + ε (adam, β₂ = 0.999)
    x ← (1−c)·x + c·z              c = l²/Σl², l the largest η so far
    and the model holds x while it is evaluated.

References:
    Defazio et al. 2024, "The Road Less Scheduled", §2 and Appendix (weights by the square of the largest rate);
    Kingma & Ba 2015 for P.

How it differs from the textbook:
1. x is not stored: x = (y − (1−b)·z)/b. One step is then y ← lerp(y, z, c) − η_y·(d + λy), z ← z − η·(d + λy) with
   η_y = η·(1 − b(1−c)), which is how far y moves along the update. That is the rate the wire speaks of.
2. The rate is not a hyperparameter: `set_rate` is called before each step.
3. `eval()` keeps y while the model holds x, so that `train()` brings it back bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

Form = Literal["sgd", "adam"]
BETA2, EPS, AVERAGING = 0.999, 1e-8, 0.9


class Averaging:
    """c of each step: the weight of the newest z in x, by the square of the largest rate so far.

    >>> averaging = Averaging()
    >>> [round(averaging.weigh(rate), 3) for rate in (1.0, 1.0, 2.0, 1.0)]
    [1.0, 0.5, 0.667, 0.4]
    """

    def __init__(self) -> None:
        self.largest = 0.0
        self.total = 0.0

    def weigh(self, rate: float) -> float:
        """Takes a step at this rate into the average; its c in (0, 1]."""
        self.largest = max(self.largest, rate)
        square = self.largest * self.largest
        self.total += square
        return square / self.total if self.total > 0 else 1.0

    def expected(self, rate: float) -> float:
        """c of a step at this rate, without taking it."""
        square = max(self.largest, rate) ** 2
        return square / (self.total + square) if square > 0 else 1.0


class ScheduleFree(Optimizer):
    """Schedule-free SGD or Adam. Train between `train()` and `eval()`, look at the model or save it after `eval()`.

    Args:
        params: parameters or groups. A group may set its own `lr` (a factor on the rate, 1 unless set) and
            `weight_decay`.
        form: "sgd" or "adam".
        averaging: b in (0, 1): how far y is from z towards the average x.
        weight_decay: λ ≥ 0, decoupled, at y.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        form: Form = "adam",
        averaging: float = AVERAGING,
        weight_decay: float = 0.0,
        beta2: float = BETA2,
        eps: float = EPS,
    ) -> None:
        if form not in ("sgd", "adam"):
            raise ValueError(f"expected form 'sgd' or 'adam', got {form!r}")
        for name, value, ok in (
            ("averaging", averaging, 0 < averaging < 1),
            ("beta2", beta2, 0 <= beta2 < 1),
            ("eps", eps, eps > 0),
            ("weight_decay", weight_decay, weight_decay >= 0),
        ):
            if not ok:
                raise ValueError(f"expected {name} in its range (averaging, beta2 in (0, 1); others ≥ 0), got {value}")
        super().__init__(params, {"lr": 1.0, "weight_decay": weight_decay})
        self.form: Form = form
        self.averaging, self.beta2, self.eps = averaging, beta2, eps
        self.weights = Averaging()
        self.updates = 0
        self.training = True

    # -- what a step is made of --------------------------------------------------------------------------------------

    def moving(self) -> list[Tensor]:
        """Parameters that have a gradient now, in the order of the groups."""
        return [p for group in self.param_groups for p in group["params"] if p.grad is not None]

    @torch.no_grad()
    def prepare(self) -> None:
        """Takes the gradients into the second moment and makes z where there is none. Once before each `update`."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if "z" not in self.state[p]:
                    self.state[p]["z"] = _accurate(p).clone(memory_format=torch.preserve_format)
                    if self.form == "adam":
                        self.state[p]["exp_avg_sq"] = torch.zeros_like(_accurate(p))
            if self.form == "adam" and params:
                moments = [self.state[p]["exp_avg_sq"] for p in params]
                gradients = [_dense(p.grad).to(v.dtype) for p, v in zip(params, moments, strict=True)]
                torch._foreach_mul_(moments, self.beta2)
                torch._foreach_addcmul_(moments, gradients, gradients, value=1.0 - self.beta2)
        self.updates += 1

    def preconditioner(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """P of this parameter as the coming step uses it, > 0; 1 in the sgd form and where nothing was seen yet."""
        v = self.state.get(parameter, {}).get("exp_avg_sq")
        if v is None:
            return torch.ones_like(gradient)
        if self.updates == 0:
            return gradient.abs() + self.eps
        found: Tensor = (v / (1.0 - self.beta2**self.updates)).sqrt().add_(self.eps)
        return found.to(gradient)

    def y_share(self, rate: float) -> float:
        """1 − b(1−c): how far y moves along the update when z moves by one, at a step of this rate."""
        return 1.0 - self.averaging * (1.0 - self.weights.expected(rate))

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """One step of all groups at this rate of z."""
        c = self.weights.weigh(rate)
        share = 1.0 - self.averaging * (1.0 - c)
        correction = math.sqrt(1.0 - self.beta2**self.updates)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            z = [self.state[p]["z"] for p in params]
            d = self._directions(params, correction)
            if group["weight_decay"]:
                d = list(torch._foreach_add(d, [_accurate(p) for p in params], alpha=group["weight_decay"]))
            eta = rate * float(group["lr"])
            y = [p.data for p in params]
            same = all(a.dtype == b.dtype for a, b in zip(y, z, strict=True))
            wide = y if same else [a.to(b.dtype) for a, b in zip(y, z, strict=True)]
            torch._foreach_lerp_(wide, z, c)
            torch._foreach_add_(wide, d, alpha=-eta * share)
            torch._foreach_add_(z, d, alpha=-eta)
            if not same:
                torch._foreach_copy_(y, wide)

    def _directions(self, params: list[Tensor], correction: float) -> list[Tensor]:
        gradients = [_dense(p.grad).to(self.state[p]["z"].dtype) for p in params]
        if self.form == "sgd":
            return gradients
        roots = torch._foreach_sqrt([self.state[p]["exp_avg_sq"] for p in params])
        torch._foreach_div_(roots, correction)
        torch._foreach_add_(roots, self.eps)
        return list(torch._foreach_div(gradients, roots))

    def average(self, parameter: Tensor) -> Tensor:
        """x of a parameter, while the model holds y."""
        z = self.state.get(parameter, {}).get("z")
        y = _accurate(parameter)
        return y if z is None else torch.lerp(y, z, 1.0 - 1.0 / self.averaging)

    # -- which point the model holds ---------------------------------------------------------------------------------

    @torch.no_grad()
    def eval(self) -> None:
        """The model holds x from now on: to be evaluated, or saved to be used. May be called again."""
        if not self.training:
            return
        self.training = False
        for p in self._stepped():
            self.state[p]["y"] = p.data.clone(memory_format=torch.preserve_format)
            p.data.copy_(self.average(p))

    @torch.no_grad()
    def train(self) -> None:
        """The model holds y from now on, bit for bit as before `eval()`. May be called again."""
        if self.training:
            return
        self.training = True
        for p in self._stepped():
            p.data.copy_(self.state[p].pop("y"))

    def _stepped(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if "z" in self.state.get(p, {})]


def _accurate(parameter: Tensor) -> Tensor:
    """In float32 where the parameter is of lower precision: averages of many small steps need the bits."""
    data = parameter.detach()
    return data.float() if data.dtype in (torch.float16, torch.bfloat16) else data


def _dense(gradient: Tensor | None) -> Tensor:
    assert gradient is not None  # noqa: S101  (the caller chose those that have one)
    return gradient.to_dense() if gradient.is_sparse else gradient
