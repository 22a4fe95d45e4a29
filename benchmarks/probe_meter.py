"""CPU time and peak memory of a call, in units that do not depend on the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

T = TypeVar("T")


def cpu_seconds(call: Callable[[], T]) -> tuple[T, float]:
    """The result and the CPU time of this process (immune to what else the machine does, unlike the wall clock)."""
    began = time.process_time()
    result = call()
    return result, time.process_time() - began


def gradient_seconds(gradient: Callable[[], object], repeats: int = 9) -> float:
    """Median CPU time of one gradient, after two calls that warm the caches."""
    gradient(), gradient()
    return statistics.median(cpu_seconds(gradient)[1] for _ in range(repeats))


def in_gradients(call: Callable[[], T], gradient: Callable[[], object], repeats: int = 1) -> tuple[T, float]:
    """The result and the call's CPU time in gradients taken just before and after it; the median of ``repeats``.

    CPU seconds too grow when a neighbour uses the caches; side by side, both grow.
    """
    found = []
    for _ in range(repeats):
        before = gradient_seconds(gradient, 3)
        result, seconds = cpu_seconds(call)
        found.append(2 * seconds / (before + gradient_seconds(gradient, 3)))
    return result, statistics.median(found)


def peak_bytes(call: Callable[[], object]) -> int:
    """Most bytes that the allocator held at once during the call, above what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    held = peak = 0
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@contextmanager
def counted(owner: object, name: str) -> Iterator[list[int]]:
    """Count the calls of a method while the block runs."""
    original, calls = getattr(owner, name), [0]

    def count(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        return original(*args, **kwargs)

    setattr(owner, name, count)
    try:
        yield calls
    finally:
        setattr(owner, name, original)


def plain_gradient(model: nn.Module, loss: Callable[[nn.Module, object], torch.Tensor], batch: object) -> None:
    """What a training step computes, without the step."""
    torch.autograd.grad(loss(model, batch), [p for p in model.parameters() if p.requires_grad])
