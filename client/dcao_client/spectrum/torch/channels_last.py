"""Convolutions with the channels innermost, which processors compute faster.

The same function in another order in memory: gradients of ten small convolutional networks take 0.60 to 0.97 of the
time on one thread, 0.61 to 1.09 on two (``benchmarks/probe_channels.py``). Only on the CPU, where that was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dcao_client.spectrum.torch.batches import mapped, tensors


def worthwhile(parameters: Sequence[Tensor], batches: Sequence[Any]) -> bool:
    """Whether there are kernels of two-dimensional convolutions, and images in every batch, all on the CPU.

    Kernels alone would make it slower: each convolution would turn its input around.
    """
    every = [*parameters, *(tensor for batch in batches for tensor in tensors(batch))]
    return (
        all(tensor.device.type == "cpu" for tensor in every)
        and any(p.dim() == 4 for p in parameters)
        and all(any(_is_image(tensor) for tensor in tensors(batch)) for batch in batches)
    )


def images_reordered(batch: Any) -> Any:
    """The batch with its images in the new order."""
    return mapped(batch, lambda tensor: reordered(tensor) if _is_image(tensor) else tensor)


def reordered(tensor: Tensor) -> Tensor:
    """A copy of an image or a kernel in the new order; anything else as it is."""
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _is_image(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.is_floating_point()
