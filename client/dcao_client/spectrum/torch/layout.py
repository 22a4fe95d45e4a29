"""The map between a model's trainable parameters and one flat vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._utils import _unflatten_dense_tensors


def real_view(tensor: Tensor) -> Tensor:
    """Complex entries as pairs of their real and imaginary parts, which are what an optimizer moves."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


class Layout:
    """How a list of tensors lies in a flat vector: in order, each contiguous, complex ones as pairs.

    The vector's dtype is float32, or float64 when every tensor is; half precisions are too coarse for a
    Krylov basis.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        """Raises ValueError on an empty list: there is no curvature without parameters."""
        if not tensors:
            raise ValueError("expected a model with at least one parameter that requires a gradient; got none")
        self.shapes = [t.shape for t in tensors]
        self.sizes = [t.numel() * (2 if t.is_complex() else 1) for t in tensors]
        self.dtypes = [t.dtype for t in tensors]
        self.devices = [t.device for t in tensors]
        self.size = sum(self.sizes)
        self.device = tensors[0].device
        double = (torch.float64, torch.complex128)
        self.dtype = torch.float64 if all(d in double for d in self.dtypes) else torch.float32
        self.alike = all(t.dtype is self.dtype and t.device == self.device for t in tensors)
        self.like = [t.detach() for t in tensors]

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """The tensors' values in one new vector of length ``size``."""
        pieces = [t.detach().to_dense() if t.is_sparse else t.detach() for t in tensors]
        return torch.cat([real_view(t).reshape(-1).to(self.device, self.dtype) for t in pieces])

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Views (or casts) of the vector with the tensors' shapes, dtypes and devices."""
        if self.alike:
            return list(_unflatten_dense_tensors(vector, self.like))  # type: ignore[no-untyped-call]
        split = zip(torch.split(vector, self.sizes), self.shapes, self.devices, self.dtypes, strict=True)
        return [_shaped(piece, shape, device, dtype) for piece, shape, device, dtype in split]


def _shaped(piece: Tensor, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor:
    if dtype.is_complex:
        return torch.view_as_complex(piece.view(*shape, 2)).to(device, dtype)
    return piece.view(shape).to(device, dtype)
