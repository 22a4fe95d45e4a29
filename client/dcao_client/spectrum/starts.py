"""Where Lanczos starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dcao_client.spectrum.arrays import Vector, arrays
from dcao_client.spectrum.settings import StartKind
from dcao_client.spectrum.vectors import Space

# Length of the random part beside unit vectors.
NOISE = 0.1
# The last Ritz vectors that are sought again, and the length of those below: the next eigenvector, which may have
# overtaken the second one since (or, after a solve that missed λ₂, what it was about to find).
WANTED, LOWER = 2, 0.3
TINY = 1e-30  # a length is divided by; single precision holds it


def start_vector(kind: StartKind, gradient: Vector, warm: Sequence[Vector], generator: Any, space: Space) -> Vector:
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
        total += unit
    for rank, vector in enumerate(warm):
        v = arrays(unit).cast(vector, unit)
        sign = -1.0 if space.dot(v, unit) < 0 else 1.0
        share = 1.0 if rank < WANTED else LOWER
        total += sign * share / max(space.norm(v), TINY) * v
    return total


def _random(like: Vector, generator: Any, space: Space) -> Vector:
    vector = arrays(like).normal(generator, like.shape[0], like)
    return vector / space.norm(vector)


def continued(
    gradient: Vector,
    last: Sequence[Vector],
    lengths: tuple[float, float],
    generator: Any,
    space: Space,
) -> Vector:
    """The last top vector, the second and the gradient, of ``lengths`` beside it; the gradient where there is none.

    Each has the sign of its component along the gradient, so that nothing cancels.
    """
    length = space.norm(gradient)
    total = arrays(gradient).zeros(gradient.shape[0], gradient)
    for vector, share in zip(last, (1.0, lengths[0]), strict=False):
        v = arrays(gradient).cast(vector, gradient)
        size = space.norm(v)
        if size > 0.0:
            total += (-share if space.dot(v, gradient) < 0 else share) / size * v
    if not last or not space.norm(total) > 0.0:
        return start_vector("gradient", gradient, (), generator, space)
    if length > 0.0:
        total += lengths[1] / length * gradient
    return total
