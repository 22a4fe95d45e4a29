"""`Learner(cbs=[CurvatureCallback(...)])`: DCAO in fastai. Needs `pip install 'dcao[fastai]'`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastai.callback.core import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao_client.hooks.adapter import Point, attached, refuses_only
from dcao_client.hooks.attachment import Attachment, Loss
from dcao_client.hooks.carried import brought_in_optimizer, carry_in_optimizer
from dcao_client.hooks.quiet import never_raises
from dcao_client.once import Once


class CurvatureCallback(Callback):
    """Puts the torch optimizer of a Learner under control.

    Args:
        loss: `loss(model, batch)`, the mean loss of a batch as the loader gives it. Absent: the learner's.
        options: everything else that `attach` takes: trust, run, policy, probe_interval, overhead, url, …

    Raises:
        ValueError: at the start of a fit, where something cannot be controlled; the message says what to do.
    """

    order = 70  # after fastai's schedules, which write at 60

    def __init__(self, loss: Loss | None = None, **options: Any) -> None:
        super().__init__()
        self._given, self._options = loss, options
        self._init_state()

    def _init_state(self) -> None:
        self.control: Attachment | None = None
        self.once = Once()
        self._point = Point()
        self._finally: Callable[[], None] | None = None

    # A learner that is exported leaves the running control behind.
    _stateattrs = ("control", "once", "_point", "_finally")

    @refuses_only
    def before_fit(self) -> None:
        """Attaches; goes on where the same optimizer trained before, as `fine_tune` does."""
        self.run = not any(hasattr(self.learn, other) for other in ("lr_finder", "gather_preds"))
        if not self.run:
            return
        optimizer = getattr(self.learn.opt, "opt", self.learn.opt)
        if not isinstance(optimizer, Optimizer):
            raise ValueError(
                f"expected a torch optimizer, got {type(optimizer).__module__}.{type(optimizer).__name__}; write "
                "Learner(..., opt_func=functools.partial(OptimWrapper, opt=torch.optim.AdamW))"
            )
        kept = brought_in_optimizer(optimizer)
        self.control = attached(self.learn.model, optimizer, lambda: self._given or self._own_loss, self._options)
        self._point = Point(optimizer)
        if self._point.saves_control:
            self._without_rate()
        else:
            if kept is not None:
                self.control.load_state_dict(kept)
            self._finally = carry_in_optimizer(optimizer, self._saved)
        self._point.to_train()

    def _without_rate(self) -> None:
        """`fit` has written the learner's rate over a DCAO's groups, where it would be a factor."""
        if any("lr" in getattr(callback, "scheds", ()) for callback in self.learn.cbs):
            raise ValueError(
                "expected no schedule over DCAO(model, loss), which finds every step's rate, got a ParamScheduler; "
                "write learn.fit(epochs) instead of fit_one_cycle or fine_tune"
            )
        self.learn.opt.set_hypers(lr=1.0)

    def _own_loss(self, model: nn.Module, batch: tuple[Any, ...]) -> Tensor:
        inputs = len(self.learn.xb)
        loss: Tensor = self.learn.loss_func(model(*batch[:inputs]), *batch[inputs:])
        return loss

    @never_raises
    def _saved(self) -> dict[str, Any] | None:
        return None if self.control is None else self.control.state_dict()

    @never_raises
    def before_train(self) -> None:
        """Trains at y."""
        self._point.to_train()

    @never_raises
    def before_step(self) -> None:
        """Measures and decides if it is time to."""
        if self.control is not None:
            self._point.measure(self.control, (*self.learn.xb, *self.learn.yb))

    @never_raises
    def after_train(self) -> None:
        """Validated and saved is x."""
        self._point.to_use()

    @never_raises
    def after_fit(self) -> None:
        """The model holds what is to be used; the run is over."""
        self._point.to_use()
        self._point.release()
        if self._finally is not None:
            self._finally()
            self._finally = None
        if self.control is not None:
            self.control.finish()
