"""Schedule-free steps at a rate set from outside: the mathematics of `DCAO`, without controller and probe.

    y = (1−b)·z + b·x              the model holds y while it trains; the gradient g is taken there
    z ← z − η·(d + λ·y)            d: the update of the form (`forms.py`, `muon.py`): g, g/P, or orthogonalised momentum
    x ← (1−c)·x + c·z              c = l²/Σl², l the largest η so far
    and the model holds x while it is evaluated.

References:
    Defazio et al. 2024, "The Road Less Scheduled", §2 and Appendix (weights by the square of the largest rate).

How it differs from the textbook:
1. x is not stored: x = (y − (1−b)·z)/b. One step is then y ← lerp(y, z, c) − η_y·(d + λy), z ← z − η·(d + λy) with
   η_y = η·(1 − b(1−c)), which is how far y moves along the update. That is the rate the wire speaks of.
2. The rate is not a hyperparameter: `set_rate` is called before each step.
3. `eval()` keeps y while the model holds x, so that `train()` brings it back bit for bit.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dcao_client.hooks.forms import Adam, Form, FormName, Sgd, Update
from dcao_client.hooks.muon import Muon

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


@dataclass
class Moving:
    """Parameters with a gradient, group after group (group i ends at `ends[i]`), and their state in the same order."""

    params: list[Tensor]
    ends: list[int]
    z: list[Tensor]
    moments: list[Any]

    def outermost(self) -> list[tuple[Tensor, Tensor]]:
        """The first and the last with their z: replaced state replaces these too."""
        return list(zip(self.params, self.z, strict=True))[:: max(len(self.params) - 1, 1)]

    def parts(self) -> Iterator[slice]:
        """Where each group's are."""
        return map(slice, [0, *self.ends], self.ends)

    def gradients(self) -> list[Tensor]:
        """In the precision of the state."""
        dense = [_dense(p.grad) for p in self.params]
        return [g if g.dtype == z.dtype else g.to(z.dtype) for g, z in zip(dense, self.z, strict=True)]

    def wide(self) -> tuple[list[Tensor], bool]:
        """y in the precision of the state, and whether that is not the parameters' own."""
        y = [p.data for p in self.params]
        if all(a.dtype == b.dtype for a, b in zip(y, self.z, strict=True)):
            return y, False
        return [a.to(b.dtype) for a, b in zip(y, self.z, strict=True)], True


class ScheduleFree(Optimizer):
    """Schedule-free steps. Train between `train()` and `eval()`, look at the model or save it after `eval()`.

    Args:
        params: parameters or groups. A group may set its own `lr` (a factor on the rate, 1 unless set) and
            `weight_decay`; under form "muon" also its `form`, "muon" or "adam".
        form: "sgd", "adam" or "muon".
        hidden: which parameters form "muon" orthogonalises where a group does not say; all matrices if absent.
        averaging: b in (0, 1): how far y is from z towards the average x.
        weight_decay: λ ≥ 0, decoupled, at y.

    Raises:
        ValueError: an argument is out of range, or a form cannot do with a parameter.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        form: FormName = "adam",
        hidden: Iterable[Tensor] | None = None,
        averaging: float = AVERAGING,
        weight_decay: float = 0.0,
        beta2: float = BETA2,
        eps: float = EPS,
    ) -> None:
        if form not in ("sgd", "adam", "muon"):
            raise ValueError(f"expected form 'sgd', 'adam' or 'muon', got {form!r}")
        for name, value, ok in (
            ("averaging", averaging, 0 < averaging < 1),
            ("beta2", beta2, 0 <= beta2 < 1),
            ("eps", eps, eps > 0),
            ("weight_decay", weight_decay, weight_decay >= 0),
        ):
            if not ok:
                raise ValueError(f"expected {name} in its range (averaging, beta2 in (0, 1); others ≥ 0), got {value}")
        adam = Adam(beta2, eps)
        self.form: Form = Sgd() if form == "sgd" else adam if form == "adam" else Muon(adam, hidden)
        super().__init__(params, {"lr": 1.0, "weight_decay": weight_decay, "form": None})
        self.averaging = averaging
        self.weights = Averaging()
        self.updates = 0
        self.training = True
        self._moving: Moving | None = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's.

        Raises:
            ValueError: also where the form cannot do with a parameter of it; nothing is added then.
        """
        super().add_param_group(param_group)
        try:
            self.form.admit(self.param_groups[-1])
        except ValueError:
            del self.param_groups[-1]
            raise

    # -- what a step is made of --------------------------------------------------------------------------------------

    @torch.no_grad()
    def moving(self) -> Moving:
        """Parameters that have a gradient now, with their state, made where there is none.

        The lists are kept from step to step: on an accelerator the host's own work is what a step waits for.
        """
        params, ends = [], []
        for group in self.param_groups:
            params += [p for p in group["params"] if p.grad is not None]
            ends.append(len(params))
        known = self._moving
        if (
            known is None
            or known.ends != ends
            or not all(map(operator.is_, known.params, params))
            or any(self.state[p].get("z") is not z for p, z in known.outermost())
        ):
            for p in params:
                if "z" not in self.state[p]:
                    self._begin(p)
            known = self._moving = Moving(
                params, ends, [self.state[p]["z"] for p in params], [self._moment(p) for p in params]
            )
        return known

    def _begin(self, p: Tensor) -> None:
        """State of a parameter at its first gradient."""
        self.state[p]["z"] = _accurate(p).clone(memory_format=torch.preserve_format)
        moment = self.form.begin(p, _dense(p.grad).to(_accurate(p).dtype), self.updates)
        if moment is not None:
            self.state[p][self.form.name_of(p)] = moment

    def _moment(self, p: Tensor) -> Any:
        return self.state.get(p, {}).get(self.form.name_of(p))

    @torch.no_grad()
    def prepare(self) -> None:
        """Takes the gradients into the moments. Once before each `update`."""
        moving = self.moving()
        self.updates += 1
        if moving.params:
            self.form.take(moving.params, moving.moments, moving.gradients(), self.updates)

    @property
    def preconditioned(self) -> bool:
        """Whether a step divides by P."""
        return self.form.preconditioned

    def preconditioner(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """P of this parameter as the coming step uses it, > 0; 1 in the sgd form and where nothing was seen yet."""
        moment = self._moment(parameter)
        if moment is None:
            return torch.ones_like(gradient)
        return self.form.preconditioner(parameter, moment, gradient, self.updates)

    def y_share(self, rate: float) -> float:
        """1 − b(1−c): how far y moves along the update when z moves by one, at a step of this rate."""
        return 1.0 - self.averaging * (1.0 - self.weights.expected(rate))

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """One step of all groups at this rate of z."""
        c = self.weights.weigh(rate)
        moving = self.moving()
        if not moving.params:
            return
        y, narrow = moving.wide()
        d = self.form.update(moving.params, moving.moments, moving.gradients(), self.updates)
        for group, part in zip(self.param_groups, moving.parts(), strict=True):
            if part.start < part.stop:
                eta = rate * float(group["lr"])
                _step(y[part], moving.z[part], d.part(part), c, eta, float(group["weight_decay"]), self.averaging)
        if narrow:
            torch._foreach_copy_([p.data for p in moving.params], y)

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


def _step(y: list[Tensor], z: list[Tensor], d: Update, c: float, eta: float, decay: float, b: float) -> None:
    """y and z of one group, in place."""
    shrinking = torch._foreach_mul(y, decay) if decay else None
    torch._foreach_lerp_(y, z, c)
    for point, rate in ((y, eta * (1.0 - b * (1.0 - c))), (z, eta)):
        if d.under is None:
            torch._foreach_add_(point, d.over, alpha=-rate * d.factor)
        else:
            torch._foreach_addcdiv_(point, d.over, d.under, value=-rate * d.factor)
        if shrinking is not None:
            torch._foreach_add_(point, shrinking, alpha=-rate)


def _accurate(parameter: Tensor) -> Tensor:
    """In float32 where the parameter is of lower precision: averages of many small steps need the bits."""
    data = parameter.detach()
    return data.float() if data.dtype in (torch.float16, torch.bfloat16) else data


def _dense(gradient: Tensor | None) -> Tensor:
    assert gradient is not None  # noqa: S101  (the caller chose those that have one)
    return gradient.to_dense() if gradient.is_sparse else gradient
