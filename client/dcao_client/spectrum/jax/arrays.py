"""What the mathematics asks of JAX's arrays (``spectrum.arrays``): compiled once for a shape, whole on every device.

Nothing is written in place but the basis's own slabs, whose buffers are given up (donated) to the next ones.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dcao_client.spectrum.arrays import Numbers

Block = tuple[Array, int, int]

# Columns multiplied at once; their sums are added in float64 on the host, for JAX has none unless it is told.
BLOCK = 1 << 20
# Tensor cores round to ten bits unless asked not to; orthogonality needs all 24.
WHOLE = jax.lax.Precision.HIGHEST


@jax.jit
def dot(a: Array, b: Array) -> list[Array]:
    """aᵀb in parts, for ``host``."""
    return [_parts(a[None], b)]


def inner(blocks: Sequence[Block], w: Array) -> list[Array]:
    """Rows @ w in parts, for ``host``."""
    return [_inner(slab, w, begin, end) for slab, begin, end in blocks]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _inner(slab: Array, w: Array, begin: int, end: int) -> Array:
    return _parts(_rows(slab, begin, end, w.dtype), w)


def _rows(slab: Array, begin: int, end: int, dtype: Any) -> Array:
    return (slab if (begin, end) == (0, slab.shape[0]) else slab[begin:end]).astype(dtype)


def _parts(rows: Array, w: Array) -> Array:
    n = w.shape[0]
    if n <= BLOCK:  # a slice would be a copy
        return jnp.matmul(rows, w, precision=WHOLE)[None]
    parts = [jnp.matmul(rows[:, i : i + BLOCK], w[i : i + BLOCK], precision=WHOLE) for i in range(0, max(n, 1), BLOCK)]
    return jnp.stack(parts)


def host(numbers: list[Array]) -> Numbers:
    """In one transfer."""
    return np.concatenate([np.asarray(part, np.float64).sum(axis=0) for part in jax.device_get(numbers)])


def subtract(w: Array, blocks: Sequence[Block], c: Numbers) -> Array:
    """w − Σ cᵢ·rowᵢ."""
    start = 0
    for slab, begin, end in blocks:
        factors = np.asarray(c[start : start + end - begin], w.dtype)
        w = _subtract(w, slab, factors, begin, end)
        start += end - begin
    return w


@functools.partial(jax.jit, static_argnums=(3, 4))
def _subtract(w: Array, slab: Array, c: Array, begin: int, end: int) -> Array:
    return w - jnp.matmul(c, _rows(slab, begin, end, w.dtype), precision=WHOLE)


def apart(w: Array, other: Array) -> Array:
    """Itself: arrays are not written."""
    return w


def zeros(n: int, like: Array) -> Array:
    """Where the other is."""
    return jnp.zeros(n, like.dtype, device=_place(like))


def cast(vector: Array, like: Array) -> Array:
    """In its precision; every vector of a problem is in one place."""
    return vector.astype(like.dtype)


def eps(like: Array) -> float:
    """Of its dtype."""
    return float(jnp.finfo(like.dtype).eps)


def width(slab: Array) -> int:
    """Bytes of an entry."""
    return int(slab.dtype.itemsize)


class Generator:
    """A key that is split at each draw."""

    def __init__(self, seed: int) -> None:
        self.key = jax.random.key(seed & 0xFFFFFFFF)

    def next(self) -> Array:
        """A key for one draw."""
        self.key, one = jax.random.split(self.key)
        return one


def generator(seed: int) -> Generator:
    """Of its own, as every key is."""
    return Generator(seed)


def normal(generator: Generator, n: int, like: Array) -> Array:
    """Drawn on the device."""
    return jax.device_put(jax.random.normal(generator.next(), (n,), like.dtype), _place(like))


def signs(generator: Generator, n: int, like: Array) -> Array:
    """±1."""
    return jax.device_put(jax.random.rademacher(generator.next(), (n,), like.dtype), _place(like))


def slab(rows: int, n: int, like: Array, kind: str) -> Array:
    """Zeros. "cpu" kinds too stay on the device: XLA would wait for each row."""
    dtype = jnp.bfloat16 if kind.endswith("bf16") else like.dtype
    return jnp.zeros((rows, n), dtype, device=_place(like))


@functools.partial(jax.jit, donate_argnums=0)
def write(slab: Array, slot: int, row: Array, length: float) -> Array:
    """In the buffer of the slab given."""
    return slab.at[slot].set((row / length).astype(slab.dtype))


@functools.partial(jax.jit, static_argnums=1)
def row(slab: Array, slot: int) -> Array:
    """A copy."""
    return slab[slot]


def rotate(blocks: Sequence[Block], turn: Numbers, like: Array) -> list[Array]:
    """New slabs; for a moment both are there."""
    size, keep = blocks[0][0].shape[0], turn.shape[1]
    used = [(slab, end - begin) for slab, begin, end in blocks]
    starts = np.cumsum([0, *(count for _, count in used)])
    parts = [np.asarray(turn[at : at + count], like.dtype) for at, (_, count) in zip(starts, used, strict=False)]
    rows = functools.reduce(
        jnp.add, [_turn(slab, part, count) for (slab, count), part in zip(used, parts, strict=True)]
    )
    padded = [rows[i : i + size] for i in range(0, keep, size)]
    return [_filled(part, size, blocks[0][0].dtype) for part in padded]


@functools.partial(jax.jit, static_argnums=2)
def _turn(slab: Array, turn: Array, count: int) -> Array:
    return jnp.matmul(turn.T, slab[:count].astype(turn.dtype), precision=WHOLE)


def _filled(rows: Array, size: int, dtype: Any) -> Array:
    return jnp.pad(rows, ((0, size - rows.shape[0]), (0, 0))).astype(dtype)


def _place(like: Array) -> Any:
    """Where vectors like this one are: whole on every device of a mesh, or on the default one."""
    return like.sharding if like.committed and like.is_fully_replicated else None
