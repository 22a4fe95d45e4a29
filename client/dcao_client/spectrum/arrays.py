"""What the mathematics asks of a framework's arrays, found by the array it is given.

Sums, multiples and quotients are written as everywhere. What remains is what the array standard (data-apis.org) leaves
out and a solver on long vectors lives on: products subtracted without another copy, sums kept in double precision where
the vectors are single, storage that grows, and a generator that belongs to nobody else. Each framework's ``arrays.py``
has these few under the same names; ``spectrum.numpy`` is the plainest, and what the others are tested beside. No vector
leaves its framework or its device: what comes to the host is a handful of inner products.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

# A flat vector, or some as rows, of whichever framework.
Vector = Any
Numbers = npt.NDArray[np.float64]
FRAMEWORKS = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "tensorflow": "tensorflow", "numpy": "numpy"}


# Rows begin…end of a slab.
Block = tuple[Vector, int, int]


class Arrays(Protocol):
    """The module ``spectrum.<framework>.arrays``."""

    def dot(self, a: Vector, b: Vector) -> Any:
        """aᵀb in float64, where the vectors are; for ``host``."""

    def inner(self, blocks: Sequence[Block], w: Vector) -> Any:
        """Rows @ w, of all blocks in turn, in float64, where the vectors are; for ``host``."""

    def host(self, numbers: Any) -> Numbers:
        """A few numbers on the host."""

    def subtract(self, w: Vector, blocks: Sequence[Block], c: Numbers) -> Vector:
        """w − Σ cᵢ·rowᵢ, in w itself where it can be written."""

    def apart(self, w: Vector, other: Vector) -> Vector:
        """w, or a copy of it where writing to it would write to ``other``."""

    def zeros(self, n: int, like: Vector) -> Vector:
        """A vector of zeros."""

    def cast(self, vector: Vector, like: Vector) -> Vector:
        """In the precision of another, and where it is."""

    def eps(self, like: Vector) -> float:
        """The unit roundoff of its precision."""

    def width(self, slab: Vector) -> int:
        """Bytes of an entry."""

    def generator(self, seed: int) -> Any:
        """One of its own: no global one is drawn from."""

    def normal(self, generator: Any, n: int, like: Vector) -> Vector:
        """Independent normal numbers."""

    def signs(self, generator: Any, n: int, like: Vector) -> Vector:
        """Independent ±1."""

    def slab(self, rows: int, n: int, like: Vector, kind: str) -> Vector:
        """Room for so many rows: "full" as the vector, "bf16" in half of it, on the host as "cpu" or "cpu_bf16"."""

    def write(self, slab: Vector, slot: int, row: Vector, length: float) -> Vector:
        """The slab with row/length in a slot; itself where it can be written."""

    def row(self, slab: Vector, slot: int) -> Vector:
        """What stands in a slot."""

    def rotate(self, blocks: Sequence[Block], turn: Numbers, like: Vector) -> list[Vector]:
        """Slabs whose first rows are turnᵀ·rows; those given where they can be written."""


def arrays(like: Vector) -> Arrays:
    """Of the framework that the array is of.

    Raises:
        TypeError: it is of none of these.
    """
    for kind in type(like).__mro__:
        name = FRAMEWORKS.get(kind.__module__.partition(".")[0])
        if name is not None:
            return cast(Arrays, import_module(f"dcao_client.spectrum.{name}.arrays"))
    expected = ", ".join(sorted(set(FRAMEWORKS.values())))
    raise TypeError(f"expected an array of {expected}; got {type(like).__module__}.{type(like).__name__}")
