"""How many examples a batch of tensors holds, its first few, and whether the model couples them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dcao_client.spectrum.batches import part_of, parts

PLAIN = (str, bytes, int, float, type(None))


def count_examples(batch: Any) -> int:
    """The leading dimension of the first tensor found in a nested batch.

    Raises:
        ValueError: there is no tensor with a leading dimension; pass ``ProbeSettings(examples=…)``.
    """
    first = _first_tensor(batch)
    if first is None:
        raise ValueError(
            f"expected a batch with a tensor whose first dimension counts examples; got {type(batch).__name__}; "
            "pass ProbeSettings(examples=callable)"
        )
    return int(first.shape[0])


def take(batch: Any, count: int, total: int | None = None) -> Any:
    """The first ``count`` of ``total`` examples: what has one entry for each of them is cut, the rest is kept.

    That is every tensor with such a leading dimension and every such list of texts or numbers.
    """
    total = count_examples(batch) if total is None else total
    if count >= total:
        return batch

    def cut(item: Any) -> Any:
        return item[:count] if len(item) == total else item

    return mapped(batch, lambda t: cut(t) if t.dim() else t, cut)


def with_examples(batch: Any, count: Callable[[Any], int], limit: int | None) -> list[Any]:
    """The micro-batches that hold an example, each cut to what is measured."""
    counted = [(one, count(one)) for one in parts(batch)]
    return [one if limit is None else take(one, limit, n) for one, n in counted if n > 0]


def measured_examples(model: nn.Module, examples: int, share: float, *, roughly: bool = False) -> int | None:
    """How many of a batch's examples to measure where a ``share`` of them is enough; None: all, whatever comes."""
    return part_of(examples, share, coupled=couples_examples(model), roughly=roughly)


def couples_examples(model: nn.Module) -> bool:
    """Whether a layer takes statistics over the batch: batch norm in training, or without running ones."""
    for module in model.modules():
        known = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if not known and "batchnorm" not in type(module).__name__.lower().replace("_", ""):
            continue
        always = known and getattr(module, "running_mean", None) is None
        if always or (module.training and "frozen" not in type(module).__name__.lower()):
            return True
    return False


def _first_tensor(batch: Any) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch if batch.dim() else None
    if isinstance(batch, Mapping):
        batch = batch.values()
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        batch = [getattr(batch, field.name) for field in dataclasses.fields(batch)]
    elif not isinstance(batch, list | tuple):
        return None
    return next((found for item in batch if (found := _first_tensor(item)) is not None), None)


def _same(item: Any) -> Any:
    return item


def mapped(batch: Any, change: Callable[[Tensor], Tensor], lists: Callable[[Any], Any] = _same) -> Any:
    """The batch with every tensor changed: lists, tuples, named tuples, mappings and dataclasses inside one another.

    ``lists`` changes the lists that hold texts and numbers.
    """
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, list) and batch and all(isinstance(item, PLAIN) for item in batch):
        return lists(batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type | Mapping):
        changed = copy.copy(batch)
        for field in dataclasses.fields(batch):
            object.__setattr__(changed, field.name, mapped(getattr(batch, field.name), change, lists))
        return changed
    if isinstance(batch, Mapping):
        made = {key: mapped(value, change, lists) for key, value in batch.items()}
        try:
            return type(batch)(made)  # type: ignore[call-arg]
        except TypeError:
            return made
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(item, change, lists) for item in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(mapped(item, change, lists) for item in batch)
    return batch


def tensors(batch: Any) -> list[torch.Tensor]:
    """Every tensor in a nested batch."""
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    return [t for item in batch for t in tensors(item)] if isinstance(batch, list | tuple) else []
