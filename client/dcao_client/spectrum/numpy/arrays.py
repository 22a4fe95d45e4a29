"""What the mathematics asks of NumPy's arrays (``spectrum.arrays``), each as it is written in a textbook.

The plain twin of the other frameworks' modules. Rows are kept in full whatever the kind of basis: there is no bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dcao_client.spectrum.arrays import Block, Numbers

Vector = npt.NDArray[Any]


def dot(a: Vector, b: Vector) -> Numbers:
    return np.array([a.astype(np.float64) @ b.astype(np.float64)])


def inner(blocks: Sequence[Block], w: Vector) -> Numbers:
    return _rows(blocks).astype(np.float64) @ w.astype(np.float64)


def host(numbers: Numbers) -> Numbers:
    return numbers


def subtract(w: Vector, blocks: Sequence[Block], c: Numbers) -> Vector:
    w -= (c @ _rows(blocks)).astype(w.dtype)
    return w


def apart(w: Vector, other: Vector) -> Vector:
    return w.copy() if np.shares_memory(w, other) else w


def zeros(n: int, like: Vector) -> Vector:
    return np.zeros(n, like.dtype)


def cast(vector: Vector, like: Vector) -> Vector:
    return vector.astype(like.dtype, copy=False)


def eps(like: Vector) -> float:
    return float(np.finfo(like.dtype).eps)


def width(slab: Vector) -> int:
    return int(slab.dtype.itemsize)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(generator: np.random.Generator, n: int, like: Vector) -> Vector:
    return generator.standard_normal(n).astype(like.dtype)


def signs(generator: np.random.Generator, n: int, like: Vector) -> Vector:
    return (2 * generator.integers(0, 2, n) - 1).astype(like.dtype)


def slab(rows: int, n: int, like: Vector, kind: str) -> Vector:
    return np.zeros((rows, n), like.dtype)


def write(slab: Vector, slot: int, row: Vector, length: float) -> Vector:
    slab[slot] = row / length
    return slab


def row(slab: Vector, slot: int) -> Vector:
    found: Vector = slab[slot]
    return found


def rotate(blocks: Sequence[Block], turn: Numbers, like: Vector) -> list[Vector]:
    slabs = [slab for slab, _, _ in blocks]
    size = len(slabs[0])
    for index, row in enumerate(turn.T @ _rows(blocks)):
        slabs[index // size][index % size] = row
    return slabs


def _rows(blocks: Sequence[Block]) -> Vector:
    return np.concatenate([slab[begin:end] for slab, begin, end in blocks])
