"""Generators that a model or a loss holds for itself, beside the global ones of torch, numpy and Python."""

from __future__ import annotations

import contextlib
import copy
import functools
import random
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

KINDS = (torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random)
# Objects looked at, at most: a search that does not end in a large program, and takes a millisecond in a small one.
MOST = 20_000
# What holds no generator, or nothing that is a model's own.
CLOSED = (Tensor, np.ndarray, str, bytes, int, float, complex, type, types.ModuleType, type(None))


def own_generators(*roots: Any) -> list[Any]:
    """Every generator that the roots reach: by attributes, containers, closures, defaults and the globals they name.

    >>> layer = torch.nn.Linear(1, 1)
    >>> layer.noise = torch.Generator()
    >>> own_generators(layer) == [layer.noise]
    True
    """
    return [item for item in reached(*roots) if isinstance(item, KINDS)]


def own_modules(model: nn.Module, items: Sequence[Any]) -> list[nn.Module]:
    """The modules among what was reached that are no part of the model, nor a wrapper of it."""
    inside = set(map(id, model.modules()))
    found = [m for m in items if isinstance(m, nn.Module) and id(m) not in inside]
    return [m for m in found if not any(child is model for child in m.modules())]


def reached(*roots: Any) -> list[Any]:
    """Every generator and every module that the roots reach."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting = list(roots)
    while waiting and len(seen) < MOST:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, CLOSED):
            continue
        seen.add(id(item))
        if isinstance(item, random.SystemRandom):  # the machine's entropy, which nobody can put back
            continue
        if isinstance(item, KINDS):
            found.append(item)
        else:
            found += [item] if isinstance(item, nn.Module) else []
            waiting.extend(inside(item))
    return found


def inside(item: Any) -> Iterable[Any]:
    """What it holds: items, attributes, and what a function knows by closure, default or a global's name."""
    if isinstance(item, Mapping):
        return list(item.values())
    if isinstance(item, list | tuple | set | frozenset):
        return list(item)
    if isinstance(item, functools.partial):
        return [item.func, *item.args, *item.keywords.values()]
    if isinstance(item, types.MethodType):
        return [item.__self__, item.__func__]
    if isinstance(item, types.FunctionType):
        cells = [cell.cell_contents for cell in item.__closure__ or () if _filled(cell)]
        named = [item.__globals__[name] for name in item.__code__.co_names if name in item.__globals__]
        return [*cells, *(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values(), *named]
    slots = [getattr(item, name, None) for name in _slots(type(item))]
    return [*getattr(item, "__dict__", {}).values(), *slots]


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _slots(kind: type) -> list[str]:
    found = [getattr(base, "__slots__", ()) for base in kind.__mro__]
    return [name for names in found for name in ((names,) if isinstance(names, str) else names)]


def seed_own(generators: Sequence[Any], seed: int) -> None:
    """Set every generator to where this seed begins."""
    for generator in generators:
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, np.random.Generator | np.random.BitGenerator):
            bits = _bits(generator)
            bits.state = type(bits)(seed % 2**32).state
        elif isinstance(generator, np.random.RandomState):
            generator.seed(seed % 2**32)
        else:
            generator.seed(seed)


@contextlib.contextmanager
def own_restored(generators: Sequence[Any]) -> Iterator[None]:
    """Give every generator its state back on exit, also by an exception."""
    states = [_state(generator) for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            _restore(generator, state)


def _bits(generator: np.random.Generator | np.random.BitGenerator) -> np.random.BitGenerator:
    return generator.bit_generator if isinstance(generator, np.random.Generator) else generator


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator | np.random.BitGenerator):
        return copy.deepcopy(_bits(generator).state)
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator | np.random.BitGenerator):
        _bits(generator).state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
