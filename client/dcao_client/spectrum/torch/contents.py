"""What containers hold, and how they get it back: lists, dicts, sets, deques, arrays and tensors inside one another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Entries of a container, and bytes of all tensors and arrays, beyond which one is left as it is: data, not a state.
MOST_ENTRIES, MOST_BYTES = 20_000, 1 << 26


class Contents:
    """Remembers what these values hold.

    In place, because others may hold the same list (an auxiliary loss that the forward appends to).
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self._containers: list[tuple[Any, Any]] = []
        self._tensors: list[tuple[Tensor, int, Tensor]] = []
        self._arrays: list[tuple[Any, Any]] = []
        self._seen: set[int] = set()
        self._room = MOST_BYTES
        for value in values:
            self._keep(value)

    def _keep(self, value: Any) -> None:
        if isinstance(value, nn.Parameter) or id(value) in self._seen:
            return
        if isinstance(value, dict | list | set | deque | bytearray) and len(value) <= MOST_ENTRIES:
            self._seen.add(id(value))
            self._containers.append((value, value.copy()))
            inside = value.values() if isinstance(value, dict) else () if isinstance(value, bytearray) else value
            for one in inside:
                self._keep(one)
        elif type(value) is Tensor and _is_plain(value) and self._fits(value.numel() * value.element_size()):
            self._seen.add(id(value))
            self._tensors.append((value, value._version, value.detach().clone()))
        elif type(value) is np.ndarray and value.dtype != object and self._fits(value.nbytes):
            self._seen.add(id(value))
            self._arrays.append((value, value.copy()))

    def _fits(self, size: int) -> bool:
        fits = size <= self._room
        self._room -= size if fits else 0
        return fits

    def restore(self) -> None:
        """Give everything back that changed; what did not (the usual case) is left alone."""
        for container, content in self._containers:
            _refill(container, content)
        for tensor, version, content in self._tensors:
            if tensor._version != version:
                with torch.no_grad():
                    tensor.copy_(content)
        for array, content in self._arrays:
            if array.flags.writeable and not np.array_equal(array, content, equal_nan=array.dtype.kind in "fc"):
                array[...] = content


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor has a version and a copy: no part of a graph, not made for inference, strided."""
    return not (
        tensor.grad_fn is not None or tensor.is_inference() or tensor.is_nested or tensor.layout != torch.strided
    )


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, dict):
        if container.keys() != content.keys() or any(container[key] is not content[key] for key in content):
            container.clear()
            container.update(content)
    elif isinstance(container, set | bytearray):
        if container != content:
            container.clear()
            container.update(content) if isinstance(container, set) else container.extend(content)
    elif len(container) != len(content) or any(a is not b for a, b in zip(container, content, strict=True)):
        container.clear()
        container.extend(content)
