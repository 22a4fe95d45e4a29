"""What can be measured and controlled of a transformers Trainer, and what to do where it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from dcao_client.hooks.attachment import Loss

MIXIN = "write class MyTrainer(CurvatureMixin, Trainer), or CurvatureCallback(loss=lambda model, inputs: ...)"


def refuse(args: Any, optimizer: Any, *, sees_loss: bool) -> None:
    """Nothing, or what to do.

    Args:
        sees_loss: whether the loss was given, or is the trainer's own.

    Raises:
        ValueError: the optimizer's steps or the loss are out of sight.
    """
    if args.n_gpu > 1:
        raise ValueError("expected a process for each GPU, got DataParallel; start it with torchrun, which is faster")
    if type(optimizer).__name__ == "LayerWiseDummyOptimizer":
        raise ValueError(f"expected one optimizer, got one in each layer; train without optim='{args.optim}'")
    if args.label_smoothing_factor and not sees_loss:
        raise ValueError(f"expected a loss, for the Trainer keeps labels that it smooths from the model; {MIXIN}")


def refuse_schedule(scheduler: Any, steps: int) -> None:
    """Nothing, or what to do: `DCAO(model, loss)` finds the rate of every step, which a schedule would multiply.

    Raises:
        ValueError: it is another than constant.
    """
    constant = isinstance(scheduler, LambdaLR) and {
        say(step) for say in scheduler.lr_lambdas for step in (0, steps // 2, steps)
    } == {1}
    if not constant:
        raise ValueError(
            "expected a constant schedule for DCAO(model, loss), which finds the rate of every step, got "
            f"{type(scheduler).__name__}; write TrainingArguments(lr_scheduler_type='constant')"
        )


def own_loss(trainer: Any) -> Loss:
    """What a trainer that has `CurvatureMixin` computes; the loss that the model gives without one."""

    def computed(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        with trainer.compute_loss_context_manager():
            loss: Tensor = trainer.compute_loss(model, trainer._prepare_inputs(dict(batch)))
        return loss

    return _model_loss if trainer is None else computed


def _model_loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    outputs = model(**batch)
    loss: Tensor | None = outputs.get("loss") if isinstance(outputs, Mapping) else outputs[0]
    if loss is None:
        raise ValueError(f"expected a model that gives its loss, got outputs without; {MIXIN}")
    return loss
