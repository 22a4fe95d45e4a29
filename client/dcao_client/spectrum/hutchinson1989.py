"""The trace of a matrix from products with random signs (Hutchinson 1989)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dcao_client.spectrum.lanczos import Matvec
from dcao_client.spectrum.vectors import Space


@dataclass(frozen=True, slots=True)
class Trace:
    """The mean of zᵀAz and its standard error (None from one sample)."""

    value: float
    error: float | None
    matvecs: int


def trace(matvec: Matvec, like: Tensor, samples: int, generator: torch.Generator, space: Space) -> Trace:
    """tr A = E zᵀAz for independent signs z. Unbiased; the error falls with the square root of ``samples``
    ≥ 1.

    Not good for a matrix whose off-diagonal part is large beside its trace: then nothing short of many
    samples helps.

    >>> a = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    >>> trace(lambda v: a @ v, torch.zeros(3), 4, torch.Generator().manual_seed(0), Space(3)).value
    6.0
    """
    if samples < 1:
        raise ValueError(f"expected at least one sample; got {samples}")
    values = []
    for _ in range(samples):
        z = signs(like, generator)
        values.append(space.dot(z, matvec(z.clone())))
    mean = math.fsum(values) / samples
    if samples == 1:
        return Trace(mean, None, 1)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (samples - 1))
    return Trace(mean, spread / math.sqrt(samples), samples)


def signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """A vector of independent ±1 from a CPU generator."""
    return torch.randint(0, 2, (like.numel(),), generator=generator).mul_(2).sub_(1).to(like)
