"""The plain twin of `schedule_free.py`, its forms and its rate: x stored, every line of the law as it is written.

For tests, which walk both along the same gradients; and to read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class PlainTensor:
    """One parameter tensor: its points, its moment, and the update of its form ("sgd", "adam" or "muon")."""

    start: Tensor
    form: str = "adam"
    beta: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        self.x, self.z, self.y = self.start.clone(), self.start.clone(), self.start.clone()
        self.moment = torch.zeros_like(self.start)

    def look(self, g: Tensor, step: int) -> None:
        """The update d and its metric P."""
        if self.form == "sgd":
            self.d, self.P = g, torch.ones_like(g)
        elif self.form == "adam":
            self.moment = self.beta2 * self.moment + (1 - self.beta2) * g * g
            self.P = (self.moment / (1 - self.beta2**step)).sqrt() + self.eps
            self.d = g / self.P
        else:
            self.moment = self.beta * self.moment + (1 - self.beta) * g
            m = self.moment.reshape(len(g), -1)
            self.d = (0.2 * max(m.shape) ** 0.5 * newton_schulz(m)).reshape(g.shape)
            number = (self.moment * self.d).sum() / (1 - self.beta**step) / (self.d * self.d).sum()
            self.P = number * torch.ones_like(g)


def newton_schulz(m: Tensor) -> Tensor:
    """Jordan's five quintic steps; U·Vᵀ but for singular values that end between 0.7 and 1.2."""
    x: Tensor = m / m.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * (x @ x.T) @ x + 2.0315 * (x @ x.T) @ (x @ x.T) @ x
    return x


@dataclass
class PlainPath:
    """Schedule-free steps of a few tensors at one rate = min(s·r/√G, ceiling of y's step)."""

    tensors: list[PlainTensor]
    push: float = 2.5
    averaging: float = 0.9
    weight_decay: float = 0.0
    r: float = 0.0
    G: float = 0.0
    largest: float = 0.0
    total: float = 0.0
    c: float = 1.0
    steps: int = 0
    rates: list[float] = field(default_factory=list)

    def step(self, gradients: list[Tensor], *, first_rate: float | None = None, ceiling: float | None = None) -> None:
        """One step with the gradients at y. `first_rate` (1/λ₁) sets r before the first."""
        b = self.averaging
        self.steps += 1
        for t, g in zip(self.tensors, gradients, strict=True):
            t.look(g, self.steps)
            self.G += float((t.P * t.d * t.d).sum())
        if first_rate is not None:
            self.r = max(self.r, first_rate / self.push * self.G**0.5)
        rate = self.push * self.r / self.G**0.5
        if ceiling is not None:  # an absolute bound on how far y moves, which is rate·(1 − b(1−c))
            square = max(self.largest, rate) ** 2
            rate = min(rate, ceiling / (1 - b * (1 - square / (self.total + square))))
        self.rates.append(rate)
        self.largest = max(self.largest, rate)
        self.total += self.largest**2
        self.c = self.largest**2 / self.total
        for t in self.tensors:
            t.z = t.z - rate * (t.d + self.weight_decay * t.y)
            t.x = (1 - self.c) * t.x + self.c * t.z
            t.y = (1 - b) * t.z + b * t.x
        self.r = max(self.r, sum(float((t.P * (t.x - t.start) ** 2).sum()) for t in self.tensors) ** 0.5)
