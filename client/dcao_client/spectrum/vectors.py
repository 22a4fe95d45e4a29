"""Inner products of flat vectors."""

from __future__ import annotations

import math
from typing import Any

from dcao_client.spectrum.arrays import Vector, arrays


class Space:
    """Inner products of flat vectors, in one process."""

    size: int

    def __init__(self, size: int) -> None:
        self.size = size

    def reduce_(self, partial: Any) -> Any:
        """Complete a partial float64 sum; here there is nothing to add."""
        return partial

    def dot(self, a: Vector, b: Vector) -> float:
        """aᵀb to 2e-6 of ‖a‖‖b‖ whatever n."""
        of = arrays(a)
        return float(of.host(self.reduce_(of.dot(a, b)))[0])

    def norm(self, a: Vector) -> float:
        """‖a‖₂ by the same summation, NaN when an entry is not finite."""
        square = self.dot(a, a)
        return math.sqrt(square) if math.isfinite(square) else math.nan


def norm(a: Vector) -> float:
    """‖a‖₂ of a whole vector; NaN when an entry is not finite."""
    return Space(a.shape[0]).norm(a)
