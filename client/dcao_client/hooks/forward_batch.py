"""The batch, where a framework shows it to nobody but the model."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn


class ForwardBatch:
    """What the model was called with last, by its names, while gradients were taken.

    Args:
        model: the module under any wrapper; a hook is put on it.
        without: names that say something else than the batch.
    """

    def __init__(self, model: nn.Module, *, without: tuple[str, ...] = ()) -> None:
        self._without = without
        self._batch: dict[str, Any] | None = None
        self._names = list(inspect.signature(model.forward).parameters)
        self._hook = model.register_forward_pre_hook(self._catch, with_kwargs=True)
        self.listening = False  # the probe calls the model too

    def _catch(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.listening and torch.is_grad_enabled():
            named = dict(zip(self._names, args, strict=False)) | kwargs
            self._batch = {name: value for name, value in named.items() if name not in self._without}

    def take(self) -> dict[str, Any] | None:
        """The last batch, once; nothing is listened to until `listening` is set again."""
        batch, self._batch, self.listening = self._batch, None, False
        return batch

    def remove(self) -> None:
        """Takes the hook off."""
        self._hook.remove()
