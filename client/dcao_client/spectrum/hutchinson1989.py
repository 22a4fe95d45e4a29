"""The trace of a matrix from products with random signs (Hutchinson 1989)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dcao_client.spectrum.arrays import Vector, arrays
from dcao_client.spectrum.lanczos import Matvec
from dcao_client.spectrum.vectors import Space


@dataclass(frozen=True, slots=True)
class Trace:
    """The mean of zᵀAz and its standard error (None from one sample)."""

    value: float
    error: float | None
    matvecs: int


def trace(matvec: Matvec, like: Vector, samples: int, generator: Any, space: Space) -> Trace:
    """tr A = E zᵀAz for independent signs z. Unbiased; the error falls with the square root of ``samples``
    ≥ 1.

    Not good for a matrix whose off-diagonal part is large beside its trace: then nothing short of many
    samples helps.

    >>> import numpy as np
    >>> a = np.diag([3.0, 2.0, 1.0])
    >>> trace(lambda v: a @ v, np.zeros(3), 4, np.random.default_rng(0), Space(3)).value
    6.0
    """
    if samples < 1:
        raise ValueError(f"expected at least one sample; got {samples}")
    values = []
    for _ in range(samples):
        z = arrays(like).signs(generator, like.shape[0], like)
        values.append(space.dot(z, matvec(1.0 * z)))
    mean = math.fsum(values) / samples
    if samples == 1:
        return Trace(mean, None, 1)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (samples - 1))
    return Trace(mean, spread / math.sqrt(samples), samples)
