"""DCAO under an Ignite engine. Needs `pip install 'dcao[ignite]'`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from dcao_client.hooks.adapter import Point, attached
from dcao_client.hooks.attachment import Attachment, Loss
from dcao_client.hooks.quiet import never_raises
from dcao_client.once import Once


def attach(
    trainer: Engine, model: nn.Module, optimizer: Any, loss: Loss, *, evaluators: Iterable[Engine] = (), **options: Any
) -> Attachment:
    """Puts the optimizer of a trainer under control, over all processes. Call it before you add handlers that save.

    Args:
        trainer: its batches are measured, just before the optimizer's steps.
        model, optimizer: as `idist.auto_model` and `auto_optim` gave them back, if you use these.
        loss: `loss(model, batch)`, the mean loss of a batch as the trainer's loader gives it.
        evaluators: engines that evaluate the model; with a `DCAO` they run at the average.
        options: everything else that `dcao_client.attach` takes.

    Returns:
        The control: put it into `Checkpoint(to_save={"model": …, "optimizer": …, "dcao": control})`.

    Raises:
        ValueError: the optimizer cannot be controlled; see `dcao_client.attach`.
    """
    loop = _Loop(trainer, optimizer)
    loop.control = attached(model, optimizer, lambda: loss, options)
    trainer.add_event_handler(Events.ITERATION_STARTED, loop.train)
    for event in (Events.EPOCH_COMPLETED, Events.COMPLETED):
        trainer.add_event_handler(event, loop.use)
    for evaluator in evaluators:
        evaluator.add_event_handler(Events.STARTED, loop.use)
    return loop.control


class _Loop:
    """What happens at a trainer's events."""

    def __init__(self, trainer: Engine, optimizer: Any) -> None:
        self.control: Attachment | None = None
        self.once = Once()
        self._trainer, self._point = trainer, Point(optimizer)
        # Before `attach` registers its own hooks: a decision made here is the one that they apply.
        if not self._point.saves_control and hasattr(optimizer, "register_step_pre_hook"):
            optimizer.register_step_pre_hook(self.measure)

    @never_raises
    def measure(self, *_: Any) -> None:
        """The gradients are there, the model is in the mode it trains in."""
        if self.control is not None:
            self.control.step(self._trainer.state.batch)

    @never_raises
    def train(self, trainer: Engine) -> None:
        """Trains at y; a `DCAO` measures in its step."""
        self._point.to_train()
        if self.control is not None and self._point.saves_control:
            self._point.measure(self.control, trainer.state.batch)

    @never_raises
    def use(self, *_: Any) -> None:
        """Evaluated and saved is x."""
        self._point.to_use()
