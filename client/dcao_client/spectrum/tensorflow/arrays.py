"""What the mathematics asks of TensorFlow's tensors (``spectrum.arrays``); slabs are variables, written in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dcao_client.spectrum.arrays import Block, Numbers

Tensor = Any  # tf.Tensor

# Columns multiplied at once: each product is rounded once, sums are made pairwise, and added in double.
BLOCK = 1 << 20


def dot(a: Tensor, b: Tensor) -> Tensor:
    """aᵀb in double precision."""
    return _inner(a[None], b)


def inner(blocks: Sequence[Block], w: Tensor) -> Tensor:
    """Rows @ w in double precision."""
    return tf.concat([_inner(slab[begin:end], w) for slab, begin, end in blocks], 0)


def _inner(rows: Tensor, w: Tensor) -> Tensor:
    rows = tf.cast(rows, w.dtype)
    if w.shape[0] <= BLOCK:  # a slice would be a copy
        return tf.cast(tf.reduce_sum(rows * w, 1), tf.float64)
    starts = range(0, w.shape[0], BLOCK)
    parts = [tf.reduce_sum(rows[:, i : i + BLOCK] * w[i : i + BLOCK], 1) for i in starts]
    return tf.reduce_sum(tf.cast(tf.stack(parts), tf.float64), 0)


def host(numbers: Tensor) -> Numbers:
    """In one transfer."""
    return np.asarray(numbers)


def subtract(w: Tensor, blocks: Sequence[Block], c: Numbers) -> Tensor:
    """w − Σ cᵢ·rowᵢ."""
    start, wide = 0, _wide(w)
    for slab, begin, end in blocks:
        factors = tf.constant(c[start : start + end - begin], wide)
        w = w - tf.cast(tf.linalg.matvec(tf.cast(slab[begin:end], wide), factors, transpose_a=True), w.dtype)
        start += end - begin
    return w


def apart(w: Tensor, other: Tensor) -> Tensor:
    """Itself: tensors are not written."""
    return w


def zeros(n: int, like: Tensor) -> Tensor:
    """Where the other is."""
    with tf.device(like.device):
        return tf.zeros(n, like.dtype)


def cast(vector: Tensor, like: Tensor) -> Tensor:
    """In its precision; every vector of a problem is in one place."""
    return tf.cast(vector, like.dtype)


def eps(like: Tensor) -> float:
    """Of its dtype."""
    return float(np.finfo(like.dtype.as_numpy_dtype).eps)


def width(slab: Tensor) -> int:
    """Bytes of an entry."""
    return int(slab.dtype.size)


def generator(seed: int) -> Any:
    """Of its own: neither the global one nor a seed that operations are numbered after."""
    return tf.random.Generator.from_seed(seed & 0x7FFFFFFF)


def normal(generator: Any, n: int, like: Tensor) -> Tensor:
    """Drawn where the generator is."""
    return generator.normal((n,), dtype=like.dtype)


def signs(generator: Any, n: int, like: Tensor) -> Tensor:
    """±1."""
    return tf.cast(2 * generator.uniform((n,), 0, 2, tf.int32) - 1, like.dtype)


def slab(rows: int, n: int, like: Tensor, kind: str) -> Any:
    """A variable of zeros. "cpu" kinds too stay on the device: every row would be waited for."""
    with tf.device(like.device):
        return tf.Variable(tf.zeros((rows, n), tf.bfloat16 if kind.endswith("bf16") else like.dtype), trainable=False)


def write(slab: Any, slot: int, row: Tensor, length: float) -> Any:
    """In the variable itself, as a scattered row: a slice that is assigned to takes ten times as long."""
    slab.scatter_update(tf.IndexedSlices(tf.cast(row / length, slab.dtype)[None], [slot]))
    return slab


def row(slab: Any, slot: int) -> Tensor:
    """A copy."""
    return slab[slot]


def rotate(blocks: Sequence[Block], turn: Numbers, like: Tensor) -> list[Any]:
    """In the slabs given; for a moment the new rows lie beside them."""
    wide, size, parts, start = _wide(like), blocks[0][0].shape[0], [], 0
    for slab, begin, end in blocks:
        factors = tf.constant(turn[start : start + end - begin], wide)
        parts.append(tf.matmul(factors, tf.cast(slab[begin:end], wide), transpose_a=True))
        start += end - begin
    rows = tf.add_n(parts)
    for index, (slab, _, _) in enumerate(blocks):
        new = rows[index * size : (index + 1) * size]
        if new.shape[0]:
            slab[: new.shape[0]].assign(tf.cast(new, slab.dtype))
    return [slab for slab, _, _ in blocks]


def _wide(like: Tensor) -> Any:
    """What products are made in: a GPU rounds single precision's to ten bits, and orthogonality needs all 24."""
    return tf.float64 if "GPU" in like.device else like.dtype
