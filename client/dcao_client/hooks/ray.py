"""DCAO in Ray: the workers of a `TorchTrainer`, and Tune's trials. Needs `pip install 'dcao[ray]'`."""

from __future__ import annotations

from typing import Any

import ray.train
import ray.tune
from torch import nn

from dcao_client.hooks.adapter import attached
from dcao_client.hooks.attachment import Attachment, Loss
from dcao_client.hooks.optimizer import DCAO


def names() -> dict[str, Any]:
    """What a run is called here: `run` is the trial's name in Tune, the experiment's in Train; `labels` hold both.

    For `DCAO(model, loss, **names())`; `attach` takes them by itself.
    """
    try:
        experiment = ray.train.get_context().get_experiment_name()
    except (DeprecationWarning, RuntimeError):  # a function of Tune's, or neither
        context = ray.tune.get_context()
        trial, experiment = context.get_trial_name(), context.get_experiment_name()
    else:
        trial = None
    labels = {"ray.experiment": experiment, "ray.trial": trial}
    return {"run": trial or experiment, "labels": {name: value for name, value in labels.items() if value}}


def attach(model: nn.Module, optimizer: Any, loss: Loss, **options: Any) -> Attachment:
    """Puts an optimizer under control, in every worker at the same place: all measure together, under one run.

    Call it in `train_loop_per_worker` after `prepare_model`, or in a function of Tune's; then as `dcao_client.attach`.

    Args:
        model, optimizer, loss: see `dcao_client.attach`.
        options: everything else that it takes; `run` and `labels` are Ray's unless given.

    Raises:
        ValueError: see `dcao_client.attach`.
    """
    ours = {} if isinstance(optimizer, DCAO) else names()
    return attached(model, optimizer, lambda: loss, {**ours, **options})
