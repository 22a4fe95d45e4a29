"""Where Lanczos starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dcao_client.spectrum.settings import StartKind
from dcao_client.spectrum.vectors import Space

# Length of the random part beside unit vectors.
NOISE = 0.1
# The last Ritz vectors that are sought again, and the length of those below: the next eigenvector, which may have
# overtaken the second one since (or, after a solve that missed λ₂, what it was about to find).
WANTED, LOWER = 2, 0.3


def start_vector(
    kind: StartKind, gradient: Tensor, warm: Sequence[Tensor], generator: torch.Generator, space: Space
) -> Tensor:
    """A start vector of the kind asked for, or the nearest that exists: warm without history is gradient.

    "combined" adds the unit gradient to the last Ritz vectors, each with the sign of its component along the
    gradient, so that nothing cancels. Both kinds with a history hold a little of everything (``NOISE``): at the edge of
    stability the gradient lies along v₁, and what neither it nor the last vectors contain would never be found.
    """
    length = space.norm(gradient)
    if kind == "random" or not length > 0.0:
        return _random(gradient, generator, space)
    unit = gradient / length
    if kind == "gradient" or not warm:
        return unit
    total = NOISE * _random(gradient, generator, space)
    if kind == "combined":
        total.add_(unit)
    for rank, vector in enumerate(warm):
        vector = vector.to(unit)
        sign = -1.0 if space.dot(vector, unit) < 0 else 1.0
        share = 1.0 if rank < WANTED else LOWER
        total.add_(vector, alpha=sign * share / max(space.norm(vector), torch.finfo(unit.dtype).tiny))
    return total


def _random(like: Tensor, generator: torch.Generator, space: Space) -> Tensor:
    vector = torch.randn(like.numel(), generator=generator, dtype=torch.float32).to(like)
    return vector / space.norm(vector)


def continued(
    gradient: Tensor,
    last: Sequence[Tensor],
    lengths: tuple[float, float],
    generator: torch.Generator,
    space: Space,
) -> Tensor:
    """The last top vector, the second and the gradient, of ``lengths`` beside it; the gradient where there is none.

    Each has the sign of its component along the gradient, so that nothing cancels.
    """
    length = space.norm(gradient)
    total = torch.zeros_like(gradient)
    for vector, share in zip(last, (1.0, lengths[0]), strict=False):
        v = vector.to(gradient)
        size = space.norm(v)
        if size > 0.0:
            total.add_(v, alpha=(-share if space.dot(v, gradient) < 0 else share) / size)
    if not last or not space.norm(total) > 0.0:
        return start_vector("gradient", gradient, (), generator, space)
    return total.add_(gradient, alpha=lengths[1] / length) if length > 0.0 else total
