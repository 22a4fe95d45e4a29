"""Where Lanczos starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dcao_client.spectrum.settings import StartKind
from dcao_client.spectrum.vectors import Space


def start_vector(
    kind: StartKind, gradient: Tensor, warm: Sequence[Tensor], generator: torch.Generator, space: Space
) -> Tensor:
    """A start vector of the kind asked for, or the nearest that exists: warm without history is gradient.

    "combined" adds the unit gradient to the last Ritz vectors, each with the sign of its component along the
    gradient, so that nothing cancels.
    """
    length = space.norm(gradient)
    if kind == "random" or not length > 0.0:
        return _random(gradient, generator, space)
    unit = gradient / length
    if kind == "gradient" or not warm:
        return unit
    total = unit.clone() if kind == "combined" else 0.1 * _random(gradient, generator, space)
    for vector in warm:
        vector = vector.to(unit)
        sign = -1.0 if space.dot(vector, unit) < 0 else 1.0
        total.add_(vector, alpha=sign / max(space.norm(vector), torch.finfo(unit.dtype).tiny))
    return total


def _random(like: Tensor, generator: torch.Generator, space: Space) -> Tensor:
    vector = torch.randn(like.numel(), generator=generator, dtype=torch.float32).to(like)
    return vector / space.norm(vector)
