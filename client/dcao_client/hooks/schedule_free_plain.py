"""The plain twin of `schedule_free.py` and its rate: one tensor, x stored, every line of the law as it is written.

For tests, which walk both along the same gradients; and to read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class PlainPath:
    """Schedule-free Adam (or SGD) of one parameter tensor at rate = min(s·r/√G, ceiling of y's step).

    Args:
        start: x₀.
        form: "adam" or "sgd".
    """

    start: Tensor
    form: str = "adam"
    push: float = 2.5
    averaging: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    r: float = 0.0
    G: float = 0.0
    largest: float = 0.0
    total: float = 0.0
    c: float = 1.0
    steps: int = 0
    rates: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.x, self.z, self.y = self.start.clone(), self.start.clone(), self.start.clone()
        self.v = torch.zeros_like(self.start)

    def step(self, g: Tensor, *, first_rate: float | None = None, ceiling: float | None = None) -> None:
        """One step with the gradient at y. `first_rate` (1/λ₁) sets r before the first."""
        b = self.averaging
        self.steps += 1
        self.v = self.beta2 * self.v + (1 - self.beta2) * g * g
        adam = self.form == "adam"
        P = (self.v / (1 - self.beta2**self.steps)).sqrt() + self.eps if adam else torch.ones_like(g)
        self.G += float((g * g / P).sum())
        if first_rate is not None:
            self.r = max(self.r, first_rate / self.push * self.G**0.5)
        rate = self.push * self.r / self.G**0.5
        if ceiling is not None:  # an absolute bound on how far y moves, which is rate·(1 − b(1−c))
            square = max(self.largest, rate) ** 2
            rate = min(rate, ceiling / (1 - b * (1 - square / (self.total + square))))
        self.rates.append(rate)
        self.z = self.z - rate * (g / P + self.weight_decay * self.y)
        self.largest = max(self.largest, rate)
        self.total += self.largest**2
        self.c = self.largest**2 / self.total
        self.x = (1 - self.c) * self.x + self.c * self.z
        self.y = (1 - b) * self.z + b * self.x
        self.r = max(self.r, float((P * (self.x - self.start) ** 2).sum()) ** 0.5)
