"""Says once when a model is evaluated or saved at the point where it trains, which is not the one to use."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import torch
from torch import nn


class Trains(Protocol):
    """What holds one point while it trains and another to be used."""

    training: bool
    steps: int

    def say(self, about: str, text: str) -> None:
        """Logs a sentence, once for each subject."""
        ...


class Watch:
    """The hooks: they hold the optimizer weakly, and a copy of the model has them without one."""

    def __init__(self, optimizer: Trains | None) -> None:
        self._optimizer = None if optimizer is None else weakref.ref(optimizer)

    def __reduce__(self) -> Any:
        return Watch, (None,)  # a copy of the model is nobody's

    def _training(self) -> Trains | None:
        optimizer = None if self._optimizer is None else self._optimizer()
        return optimizer if optimizer is not None and optimizer.training and optimizer.steps > 0 else None

    def forward(self, module: nn.Module, _: Any) -> None:
        optimizer = self._training()
        if optimizer is not None and not module.training and not torch.is_grad_enabled():
            optimizer.say(
                "evaluated",
                "DCAO: the model is evaluated at the point where it trains, which is not the one to use; call "
                "optimizer.eval() before and optimizer.train() after",
            )

    def saved(self, *_: Any) -> None:
        optimizer = self._training()
        if optimizer is not None:
            optimizer.say(
                "saved",
                "DCAO: the model's weights are saved at the point where it trains. That is right for a checkpoint to "
                "resume from (with the optimizer's state); for weights to use call optimizer.eval() before",
            )


def watch(optimizer: Trains, module: nn.Module) -> list[Any]:
    """Puts the hooks on a module; the handles take them off."""
    watching = Watch(optimizer)
    hooks = [module.register_forward_pre_hook(watching.forward)]
    if hasattr(module, "register_state_dict_pre_hook"):  # torch 2.5 and later
        hooks.append(module.register_state_dict_pre_hook(watching.saved))  # type: ignore[no-untyped-call]
    return hooks
