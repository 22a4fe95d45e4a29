"""A training run on images, with DCAO or without, one report a step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from dcao_client import DCAO, Attachment
from dcao_experiments.data import Images
from dcao_proto import Hyperparameters

Batch = tuple[Tensor, Tensor]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of a batch of images and labels."""
    return functional.cross_entropy(model(batch[0]), batch[1])


def batches(data: Images, size: int, steps: int, seed: int) -> Iterator[Batch]:
    """`steps` batches, reshuffled every epoch by a generator of their own; the last, ragged batch is left out."""
    generator = torch.Generator().manual_seed(seed)
    left = steps
    while left > 0:
        order = torch.randperm(len(data.x), generator=generator)
        for at in range(0, len(order) - size + 1, size):
            if left == 0:
                return
            left -= 1
            chosen = order[at : at + size]
            yield data.x[chosen], data.y[chosen]


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did."""

    step: int
    loss: float
    applied: Hyperparameters | None  # None without DCAO
    probed: bool


def train(
    model: nn.Module,
    optimizer: Optimizer,
    stream: Iterator[Batch],
    *,
    dcao: Attachment | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    before_step: Callable[[int, Batch], Any] | None = None,
) -> Iterator[StepReport]:
    """Trains on every batch of the stream.

    Args:
        dcao: what `attach` returned. An optimizer that is a `DCAO` brings its own and is given each batch.
    """
    model.train()
    control = optimizer.control if isinstance(optimizer, DCAO) else dcao
    for step, batch in enumerate(stream):
        if before_step is not None:
            before_step(step, batch)
        before = None if control is None else control.decision
        if dcao is not None:
            dcao.step(batch)
        optimizer.zero_grad()
        loss = cross_entropy(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if isinstance(optimizer, DCAO):
            optimizer.step(batch=batch)
        else:
            optimizer.step()
        if scheduler is not None:
            scheduler.step()
        applied, probed = (None, False) if control is None else (control.applied, control.decision is not before)
        yield StepReport(step, loss.item(), applied, probed)


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of right answers, in [0, 1], in eval mode; the mode is put back."""
    was_training = model.training
    model.eval()
    right = 0
    for at in range(0, len(y), 1000):
        right += int((model(x[at : at + 1000]).argmax(1) == y[at : at + 1000]).sum())
    model.train(was_training)
    return right / len(y)
