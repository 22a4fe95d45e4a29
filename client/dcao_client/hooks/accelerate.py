"""DCAO in an Accelerate loop. Needs `pip install 'dcao[accelerate]'`."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from dcao_client.hooks.adapter import attached
from dcao_client.hooks.attachment import Attachment, Loss


def attach(accelerator: Accelerator, model: nn.Module, optimizer: Any, loss: Loss, **options: Any) -> Attachment:
    """Puts a prepared optimizer under control, over all processes; `save_state` and `load_state` carry it along.

    Call it after `accelerator.prepare`, and `step(batch)` of what it gives back before each `optimizer.step()`.

    Args:
        accelerator: checkpoints the control with everything else.
        model, optimizer: as `prepare` returned them.
        loss: `loss(model, batch)`, the mean loss of a batch.
        options: everything else that `dcao_client.attach` takes.

    Raises:
        ValueError: the optimizer cannot be controlled (DeepSpeed's takes its steps out of sight); see `attach` too.
    """
    inner = optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer
    control = attached(accelerator.unwrap_model(model), inner, lambda: loss, options)
    accelerator.register_for_checkpointing(control)
    return control
