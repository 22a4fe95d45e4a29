"""What the mathematics asks of torch's tensors (``spectrum.arrays``): in place wherever a copy can be spared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dcao_client.spectrum.arrays import Numbers

Block = tuple[Tensor, int, int]

# Columns multiplied at once. Single-precision ``mv`` adds in order: over so many it keeps 2e-6 even when all terms have
# one sign, over 1e7 it loses 2e-3.
BLOCK = 1 << 17
# Columns rotated at once by a restart: small enough to need no second basis, large enough for a matrix product.
ROTATED = 1 << 16


def dot(a: Tensor, b: Tensor) -> Tensor:
    """aᵀb as one float64 entry."""
    return _inner(a.reshape(1, -1), b)


def inner(blocks: Sequence[Block], w: Tensor) -> Tensor:
    """Rows @ w in float64, where the rows are."""
    w = w.to(blocks[0][0].device)
    return torch.cat([_inner(slab[begin:end].to(w.dtype), w) for slab, begin, end in blocks])


def _inner(rows: Tensor, w: Tensor) -> Tensor:
    """rows @ w in float64, shape (k,), of parts multiplied in the vectors' own precision."""
    if rows.dtype is torch.float64:
        return rows @ w
    n = max(1, w.numel())  # a rank may hold nothing of a sharded vector
    size = -(-n // -(-n // BLOCK))
    parts = [rows[:, begin : begin + size] @ w[begin : begin + size] for begin in range(0, n, size)]
    return torch.stack(parts).sum(0, dtype=torch.float64)


def host(numbers: Tensor) -> Numbers:
    """On the host."""
    found: Numbers = numbers.cpu().numpy()
    return found


def subtract(w: Tensor, blocks: Sequence[Block], c: Numbers) -> Tensor:
    """w ← w − Σ cᵢ·rowᵢ, in place."""
    device = blocks[0][0].device if blocks else w.device
    local, factors = w.to(device), torch.from_numpy(np.ascontiguousarray(c)).to(device, w.dtype)
    start = 0
    for slab, begin, end in blocks:
        local.addmv_(slab[begin:end].to(w.dtype).t(), factors[start : start + end - begin], alpha=-1.0)
        start += end - begin
    return w if local is w else w.copy_(local)


def apart(w: Tensor, other: Tensor) -> Tensor:
    """A copy where both begin in one place."""
    return w.clone() if w is other or w.data_ptr() == other.data_ptr() else w


def zeros(n: int, like: Tensor) -> Tensor:
    """On its device."""
    return like.new_zeros(n)


def cast(vector: Tensor, like: Tensor) -> Tensor:
    """Itself where nothing is to be done."""
    return vector.to(like)


def eps(like: Tensor) -> float:
    """Of its dtype."""
    return torch.finfo(like.dtype).eps


def width(slab: Tensor) -> int:
    """Bytes of an entry."""
    return int(slab.dtype.itemsize)


def generator(seed: int) -> torch.Generator:
    """On the CPU, so that every device draws the same."""
    return torch.Generator().manual_seed(seed)


def normal(generator: torch.Generator, n: int, like: Tensor) -> Tensor:
    """Drawn in single precision."""
    return torch.randn(n, generator=generator, dtype=torch.float32).to(like)


def signs(generator: torch.Generator, n: int, like: Tensor) -> Tensor:
    """±1."""
    return torch.randint(0, 2, (n,), generator=generator).mul_(2).sub_(1).to(like)


def slab(rows: int, n: int, like: Tensor, kind: str) -> Tensor:
    """Not written yet."""
    return torch.empty(
        (rows, n),
        dtype=torch.bfloat16 if kind.endswith("bf16") else like.dtype,
        device=torch.device("cpu") if kind.startswith("cpu") else like.device,
    )


def write(slab: Tensor, slot: int, row: Tensor, length: float) -> Tensor:
    """In place."""
    place = slab[slot]
    if place.device == row.device:
        torch.div(row, length, out=place)
    else:
        place.copy_(row / length)
    return slab


def row(slab: Tensor, slot: int) -> Tensor:
    """A view."""
    return slab[slot]


def rotate(blocks: Sequence[Block], turn: Numbers, like: Tensor) -> list[Tensor]:
    """In place, in column blocks, so that no second basis is held."""
    slabs = [slab for slab, _, _ in blocks]
    size, n = slabs[0].shape
    by = torch.from_numpy(np.ascontiguousarray(turn.T)).to(slabs[0].device, like.dtype)
    for begin in range(0, n, ROTATED):
        end = min(begin + ROTATED, n)
        turned = by @ torch.cat([slab[first:last, begin:end] for slab, first, last in blocks]).to(like.dtype)
        for index in range(len(by)):
            slabs[index // size][index % size, begin:end] = turned[index].to(slabs[0].dtype)
    return slabs
