"""What containers hold, and how they get it back: lists, dicts, sets, deques, arrays and tensors inside one another.

Attributes of plain objects are such a dict: of those that a module holds (a meter, a recorder, a cache), of those that
they hold, and what hooks append to or write into, however they know it (a method, a closure, a global name).
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dcao_client.spectrum.torch.generators import inside

# Entries of a container, and bytes of all tensors and arrays, beyond which one is left as it is: data, not a state.
MOST_ENTRIES, MOST_BYTES = 20_000, 1 << 26
# Plain objects within one another, and all of them, that are looked into: beyond is a program, not a layer's state.
DEEPEST, MOST_OBJECTS = 2, 1_000
CALLED = (types.FunctionType, types.MethodType, functools.partial)
# An object with one of these is another thread's too, which may be changing it now.
SHARED = (threading.Thread, type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event)
# Whose objects are no state of a layer: torch's (optimizers, loaders) and the standard library's (loggers, files).
FOREIGN = frozenset({"torch", "numpy", *sys.stdlib_module_names})


class Contents:
    """Remembers what these values hold.

    In place, because others may hold the same list (an auxiliary loss that the forward appends to).
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self._containers: list[tuple[Any, Any]] = []
        self._tensors: list[tuple[Tensor, int, Tensor]] = []
        self._arrays: list[tuple[Any, Any]] = []
        self._seen: set[int] = set()
        self._room, self._objects = MOST_BYTES, 0
        for value in values:
            self._keep(value)

    def _keep(self, value: Any, depth: int = 0) -> None:
        if isinstance(value, nn.Parameter) or id(value) in self._seen:
            return
        if isinstance(value, dict | list | set | deque | bytearray) and len(value) <= MOST_ENTRIES:
            self._seen.add(id(value))
            self._containers.append((value, value.copy()))
            for one in value.values() if isinstance(value, dict) else () if isinstance(value, bytearray) else value:
                self._keep(one, depth)
        elif type(value) is Tensor and _is_plain(value) and self._fits(value.numel() * value.element_size()):
            self._seen.add(id(value))
            self._tensors.append((value, value._version, value.detach().clone()))
        elif type(value) is np.ndarray and value.dtype != object and self._fits(value.nbytes):
            self._seen.add(id(value))
            self._arrays.append((value, value.copy()))
        elif isinstance(value, CALLED):
            self._seen.add(id(value))
            for one in inside(value):
                self._keep(one, depth)
        elif depth < DEEPEST and self._objects < MOST_OBJECTS and _is_state(value):
            self._objects += 1
            self._seen.add(id(value))
            self._keep(vars(value), depth + 1)

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


def _is_state(value: Any) -> bool:
    """Whether these are attributes that a forward pass may count in: of a class of the user's, of one thread."""
    kind = type(value)
    if isinstance(value, type | nn.Module | Tensor) or type(getattr(value, "__dict__", None)) is not dict:
        return False
    if (kind.__module__ or "").partition(".")[0] in FOREIGN:
        return False
    return not any(isinstance(one, SHARED) for one in vars(value).values())


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
