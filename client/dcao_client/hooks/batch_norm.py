"""Batch-norm statistics at the point that is evaluated.

Running means and variances are gathered while the model trains, at y; the model that is evaluated holds x, whose
activations differ. They are taken anew over a few training batches, the plain mean of the batches' statistics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCHES = 10  # as in the measurements of docs/policies.md


def with_statistics(model: nn.Module) -> list[Any]:
    """The modules of a model that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


@torch.no_grad()
def retake(model: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batches: Sequence[Any]) -> None:
    """Takes the running statistics anew over these batches. Weights, modes and random generators are as before."""
    norms = with_statistics(model)
    if not norms or not batches:
        return
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches instead of an exponential one
        with _only_these_train(model, norms), torch.random.fork_rng(enabled=True):
            for batch in batches:
                loss(model, batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@contextlib.contextmanager
def _only_these_train(model: nn.Module, norms: list[Any]) -> Iterator[None]:
    """Normalisation as in training, everything else (dropout) as in evaluation."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for norm in norms:
            norm.training = True
        yield
    finally:
        for module, mode in modes:
            module.training = mode
