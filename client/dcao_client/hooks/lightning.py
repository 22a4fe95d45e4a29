"""`Trainer(callbacks=[CurvatureCallback(...)])`: DCAO in Lightning. Needs `pip install 'dcao[lightning]'`."""

from __future__ import annotations

import inspect
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dcao_client.hooks.adapter import Point, attached, refuses_only
from dcao_client.hooks.attachment import Attachment, Loss
from dcao_client.hooks.quiet import never_raises
from dcao_client.once import Once
from dcao_client.run_context import in_words


class CurvatureCallback(Callback):
    """Puts the optimizer of a LightningModule under control, whichever it is; a `DCAO` too.

    Args:
        loss: `loss(module, batch)`, the mean loss of a batch. Absent: the module's `probe_loss(batch)`, or its
            `training_step` with its `log` muted.
        optimizer: which of several optimizers this one controls; one callback for each.
        log: whether curves go to the trainer's loggers, and what the updates use every `log_every_n_steps`.
        options: everything else that `attach` takes: trust, run, policy, probe_interval, overhead, url, …

    Raises:
        ValueError: at the start of the fit, where something cannot be controlled; the message says what to do.
    """

    def __init__(self, loss: Loss | None = None, *, optimizer: int = 0, log: bool = True, **options: Any) -> None:
        self.control: Attachment | None = None
        self.once = Once()
        self._loss, self._index, self._logs, self._options = loss, optimizer, log, options
        self._resumed: dict[str, Any] | None = None
        self._point = Point()
        self._batch_index = 0

    @property
    def state_key(self) -> str:
        """One for each optimizer."""
        return f"CurvatureCallback[{self._index}]"

    # -- from the start to the end of a fit ---------------------------------------------------------------------------

    @refuses_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attaches: optimizers and ranks are there, a checkpoint has been read."""
        optimizer = self._chosen(trainer)
        self.control = attached(pl_module, optimizer, lambda: self._loss or self._loss_of(pl_module), self._options)
        if self._resumed:  # a DCAO's own state came with the optimizer
            self.control.load_state_dict(self._resumed)
        self._resumed, self._point = None, Point(optimizer)
        self._point.to_train()
        if self._logs:
            self.control.log_to(*trainer.loggers)
        self._plain_save = trainer.save_checkpoint
        trainer.save_checkpoint = self._save_at_x

    def _chosen(self, trainer: Trainer) -> Any:
        keys = {c.state_key for c in trainer.callbacks if isinstance(c, CurvatureCallback)}
        if keys != {f"CurvatureCallback[{i}]" for i in range(len(trainer.optimizers))}:
            raise ValueError(
                f"expected a CurvatureCallback for each of {len(trainer.optimizers)} optimizers, got {sorted(keys)}; "
                "give each its loss: CurvatureCallback(loss=..., optimizer=0), CurvatureCallback(loss=..., optimizer=1)"
            )
        return trainer.optimizers[self._index]

    def _loss_of(self, pl_module: LightningModule) -> Loss:
        if callable(getattr(pl_module, "probe_loss", None)):
            return lambda module, batch: module.probe_loss(batch)
        if not pl_module.automatic_optimization:
            raise ValueError(
                "expected a loss, for a training_step with manual optimization takes steps of its own; give "
                "CurvatureCallback(loss=lambda module, batch: ...), or the module a method probe_loss(self, batch)"
            )
        return self._training_step

    def _training_step(self, module: Any, batch: Any) -> Tensor:
        names = inspect.signature(module.training_step).parameters
        muted = {name: module.__dict__.get(name) for name in ("log", "log_dict")}
        try:
            module.__dict__.update(dict.fromkeys(muted, lambda *_, **__: None))
            found = module.training_step(batch, *[self._batch_index] * (len(names) > 1))
        finally:
            for name, own in muted.items():
                module.__dict__.pop(name) if own is None else module.__dict__.update({name: own})
        loss: Tensor = found["loss"] if isinstance(found, dict) else found
        return loss

    def _save_at_x(self, *args: Any, **kwargs: Any) -> None:
        """Whoever saves, at whatever time, saves the point to use; y, where training goes on, lies beside it."""
        trained = self._to_use()
        try:
            self._plain_save(*args, **kwargs)
        finally:
            if trained:
                self._point.to_train()

    @never_raises
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measures and decides if it is time to."""
        self._batch_index = batch_idx
        self._point.to_train()
        if self.control is not None:
            self._point.measure(self.control, batch)

    @never_raises
    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """The rate that was used, under a name of its own: param_groups hold the base."""
        if self._logs and self.control is not None and self.control.steps % max(trainer.log_every_n_steps, 1) == 0:
            self.control.log_applied()

    @never_raises
    def _to_use(self) -> bool:
        return self._point.to_use()

    def on_validation_start(self, *_: Any) -> None:
        """Evaluation is at x."""
        self._to_use()

    @never_raises
    def on_train_end(self, *_: Any) -> None:
        """The module holds what is to be used; the run is over."""
        self._to_use()
        if self.control is not None:
            self.control.finish()

    @never_raises
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The run failed."""
        if self.control is not None:
            self.control.fail(in_words(exception))

    def teardown(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """The trainer saves as it did, the optimizer is on its own."""
        self._point.release()
        trainer.__dict__.pop("save_checkpoint", None)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    @never_raises
    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit needs; a DCAO's own lies in its optimizer state."""
        return {} if self.control is None or self._point.saves_control else self.control.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until there is an optimizer to go on with."""
        self._resumed = state_dict
