"""Curvature and decisions where a user keeps curves: TensorBoard, MLflow, Weights & Biases, Aim, or a function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dcao_client.hooks.ranks import is_talker
from dcao_client.once import Once
from dcao_client.spectrum import Spectrum
from dcao_proto import Decision

Write = Callable[[dict[str, float], int], Any]

PREFIX = "dcao/"
OBSERVED = ("rho", "gamma", "lambda_min", "batch_sharpness", "grad_norm", "loss")
DECIDED = ("lr", "momentum", "weight_decay", "ceiling", "edge_ratio")


def curves(spectrum: Spectrum, decision: Decision) -> dict[str, float]:
    """What was observed and decided at a step, by its documented names; what is absent or infinite has no point."""
    found: dict[str, float | None] = {name: getattr(spectrum, name) for name in OBSERVED}
    found |= {name: getattr(decision, name) for name in DECIDED}
    found["lr_multiplier"] = decision.multipliers.lr
    return {PREFIX + name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


class Curves:
    """Where the curves of a run go, from rank 0. A logger that fails is named once and stops nothing."""

    def __init__(self) -> None:
        self._writers: list[Write] = []
        self._once = Once()

    def add(self, *targets: Any) -> None:
        """Writes there too; see `writer`."""
        self._writers += [writer(target) for target in targets]

    def write(self, values: dict[str, float], step: int) -> None:
        """These numbers, at this optimizer step."""
        for write in self._writers if is_talker() else ():
            try:
                write(values, step)
            except Exception as error:  # noqa: BLE001  (a full disk of a logger is not training's)
                self._once.warn("log_to", "DCAO: a logger took no curves (%s: %s)", type(error).__name__, error)


def writer(target: Any) -> Write:
    """How to write numbers at a step into what a user already has.

    Args:
        target: a TensorBoard `SummaryWriter`, the `mlflow` module, a `wandb` run, an `aim.Run`, a Lightning logger, a
            transformers `Trainer`, or `function(metrics, step)`.

    Raises:
        TypeError: it is none of these.
    """
    if hasattr(target, "callback_handler"):  # a Trainer logs at its own step, which is ours while it trains
        return lambda values, step: target.log(dict(values))
    if hasattr(target, "add_scalar"):
        return lambda values, step: [target.add_scalar(name, value, step) for name, value in values.items()]
    if hasattr(target, "log_metrics"):  # mlflow, and every Lightning logger
        return lambda values, step: target.log_metrics(values, step=step)
    if hasattr(target, "define_metric"):
        return _wandb(target)
    if hasattr(target, "track"):
        return lambda values, step: [target.track(value, name=name, step=step) for name, value in values.items()]
    if callable(target):
        return lambda values, step: target(values, step)
    raise TypeError(
        "expected a TensorBoard SummaryWriter, mlflow, a wandb run, an aim.Run, a Lightning logger, a Trainer "
        f"or function(metrics, step), got {type(target).__name__}"
    )


def _wandb(run: Any) -> Write:
    """Its own step must not go back, so ours is an axis of its own."""
    axis = PREFIX + "step"
    run.define_metric(axis)
    run.define_metric(PREFIX + "*", step_metric=axis)
    return lambda values, step: run.log({**values, axis: step})
