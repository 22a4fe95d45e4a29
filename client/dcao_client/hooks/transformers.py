"""`Trainer(callbacks=[CurvatureCallback(...)])`: DCAO in Hugging Face's. Needs `pip install 'dcao[transformers]'`."""

from __future__ import annotations

from typing import Any, Self

from transformers import TrainerCallback

from dcao_client.hooks.adapter import Point, attached, refuses_only
from dcao_client.hooks.attachment import Attachment, Loss
from dcao_client.hooks.carried import brought, carry, put_down
from dcao_client.hooks.forward_batch import ForwardBatch
from dcao_client.hooks.quiet import never_raises
from dcao_client.hooks.trainer import own_loss, refuse, refuse_schedule
from dcao_client.once import Once
from dcao_client.run_context import in_words


class CurvatureCallback(TrainerCallback):
    """Puts the optimizer of a Trainer under control, whichever it is; a `DCAO` too.

    Args:
        loss: `loss(model, inputs)`, the mean loss of a batch. Absent: the trainer's own `compute_loss` under
            `CurvatureMixin`, else the loss that the model gives.
        options: everything else that `attach` takes: trust, run, policy, probe_interval, overhead, url, …

    Raises:
        ValueError: at the start of training, where something cannot be controlled; the message says what to do.
    """

    def __init__(self, loss: Loss | None = None, **options: Any) -> None:
        self.control: Attachment | None = None
        self.once = Once()
        self.trainer: Any = None  # of `CurvatureMixin`
        self.inputs: Any = None  # the same
        self._loss, self._options = loss, options
        self._targets: list[Any] = []
        self._point = Point()
        self._forward: ForwardBatch | None = None

    def log_to(self, *targets: Any) -> Self:
        """Every measurement and decision goes there too: the `Trainer`, or what `Attachment.log_to` takes."""
        self._targets += targets
        return self

    @refuses_only
    def on_train_begin(self, args: Any, state: Any, control: Any, **have: Any) -> None:
        """Attaches: optimizer, scheduler and ranks are there, a checkpoint has been read."""
        model, scheduler = have["model"], have["lr_scheduler"]
        optimizer = getattr(have["optimizer"], "optimizer", have["optimizer"])  # out of Accelerate's
        refuse(args, optimizer, sees_loss=(self._loss or self.trainer) is not None)
        self.control = attached(model, optimizer, lambda: self._loss or own_loss(self.trainer), self._options)
        self._point = Point(optimizer)
        if self._point.saves_control:
            refuse_schedule(scheduler, state.max_steps)
        else:
            if (kept := brought(scheduler)) is not None:
                self.control.load_state_dict(kept)
            carry(scheduler, self._state)
        self._point.to_train()
        # How many tokens the whole step has makes a sum of the loss; what is measured is the mean of a batch.
        self._forward = ForwardBatch(model, without=("num_items_in_batch",))
        self.control.log_to(*self._targets)

    @never_raises
    def _state(self) -> dict[str, Any] | None:
        return None if self.control is None else self.control.state_dict()

    # -- one step -----------------------------------------------------------------------------------------------------

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """The batches of a step come now."""
        if self._forward is not None:
            self._forward.listening = True

    @never_raises
    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Measures and decides if it is time to, on the last batch of the step."""
        seen = None if self._forward is None else self._forward.take()
        batch, self.inputs = seen if self.trainer is None else self.inputs, None
        if self.control is not None:
            self._point.measure(self.control, batch)

    @never_raises
    def on_optimizer_step(self, args: Any, state: Any, control: Any, /, **have: Any) -> None:
        """What the Trainer logs as `learning_rate` is what the update used."""
        if self.control is None or self.control.applied is None:
            return
        rates = [float(group["lr"]) for group in have["optimizer"].param_groups]
        if max(rates) > 0:
            have["lr_scheduler"]._last_lr = [self.control.applied.lr * rate / max(rates) for rate in rates]
        if (state.global_step + 1) % max(state.logging_steps, 1) == 0:
            self.control.log_applied()

    # -- where the weights are used -----------------------------------------------------------------------------------

    @never_raises
    def on_step_end(self, args: Any, state: Any, control: Any, /, **_: Any) -> None:
        """What is saved is x; the Trainer switches for evaluation and training by itself."""
        if control.should_save:
            self._point.to_use()

    @never_raises
    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """What is saved is x, and what is left after the last epoch."""
        self._point.to_use()

    @never_raises
    def on_train_end(self, *_: Any, **have: Any) -> None:
        """The run is over."""
        self._end()
        put_down(have["lr_scheduler"])
        if self.control is not None:
            self.control.finish()

    @never_raises
    def failed(self, error: BaseException) -> None:
        """The run failed; `CurvatureMixin` says so."""
        self._end()
        if self.control is not None:
            self.control.fail(in_words(error))

    def _end(self) -> None:
        self._point.release()
        if self._forward is not None:
            self._forward.remove()


class CurvatureMixin:
    """`class MyTrainer(CurvatureMixin, Trainer)`: measured is its own `compute_loss`, and a run that failed says so."""

    def _ours(self) -> list[CurvatureCallback]:
        return [c for c in self.callback_handler.callbacks if isinstance(c, CurvatureCallback)]  # type: ignore[attr-defined]

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As without."""
        for ours in self._ours():
            ours.trainer = self
        try:
            return super().train(*args, **kwargs)  # type: ignore[misc]
        except BaseException as error:
            for ours in self._ours():
                ours.failed(error)
            raise

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """As without."""
        for ours in self._ours():
            ours.inputs = inputs
        return super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
