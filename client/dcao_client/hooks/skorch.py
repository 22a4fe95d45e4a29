"""`NeuralNet(callbacks=[CurvatureCallback(...)])`: DCAO in skorch. Needs `pip install 'dcao[skorch]'`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skorch.callbacks import Callback
from skorch.dataset import unpack_data
from torch import Tensor, nn

from dcao_client.hooks.adapter import Point, attached, refuses_only
from dcao_client.hooks.attachment import Attachment, Loss
from dcao_client.hooks.carried import brought_in_optimizer, carry_in_optimizer
from dcao_client.hooks.quiet import never_raises
from dcao_client.once import Once


class CurvatureCallback(Callback):
    """Puts the optimizer of a net under control, whichever it is.

    Args:
        loss: `loss(module, batch)`, the mean loss of a batch. Absent: the net's own, with its criterion.
        options: everything else that `attach` takes: trust, run, policy, probe_interval, overhead, url, …

    Raises:
        ValueError: at the start of training, where something cannot be controlled; the message says what to do.
    """

    def __init__(self, loss: Loss | None = None, **options: Any) -> None:
        self.loss = loss
        self.options_ = tuple(options)
        self.__dict__.update(options)  # parameters, as scikit-learn's `clone` and `set_params` know them
        self.initialize()

    def _get_param_names(self) -> list[str]:
        return ["loss", *self.options_]

    def initialize(self) -> CurvatureCallback:
        """Anew, for a net that is made anew."""
        self.control_: Attachment | None = None
        self.once_ = Once()
        self.point_ = Point()
        self.end_: Callable[[], None] | None = None
        return self

    @property
    def once(self) -> Once:
        """Says things once."""
        return self.once_

    @property
    def control(self) -> Attachment | None:
        """The control, while and after the net trains."""
        return self.control_

    def __getstate__(self) -> dict[str, Any]:
        """A net that is pickled or copied leaves the running control behind."""
        return {**vars(self), "control_": None, "point_": Point(), "end_": None, "once_": Once()}

    @refuses_only
    def on_train_begin(self, net: Any, *_: Any, **__: Any) -> None:
        """Attaches; goes on where the same optimizer trained before."""
        optimizer = net.optimizer_
        kept = brought_in_optimizer(optimizer)
        self.control_ = attached(
            net.module_,
            optimizer,
            lambda: self.loss or _own_loss(net),
            {name: getattr(self, name) for name in self.options_},
        )
        self.point_ = Point(optimizer)
        if not self.point_.saves_control:
            if kept is not None:
                self.control_.load_state_dict(kept)
            self.end_ = carry_in_optimizer(optimizer, self._state)
        self.point_.to_train()

    @never_raises
    def _state(self) -> dict[str, Any] | None:
        return None if self.control_ is None else self.control_.state_dict()

    @never_raises
    def on_batch_begin(self, net: Any, /, batch: Any = None, training: bool = False, **_: Any) -> None:
        """Trains at y, validates at x."""
        if not training:
            self.point_.to_use()
            return
        self.point_.to_train()
        if self.point_.saves_control and self.control_ is not None:
            self.point_.measure(self.control_, batch)

    @never_raises
    def on_grad_computed(self, net: Any, /, batch: Any = None, **_: Any) -> None:
        """Measures and decides if it is time to, in the module's training mode."""
        if self.control_ is not None and not self.point_.saves_control:
            self.control_.step(batch)

    @never_raises
    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Whoever saves after an epoch saves x."""
        self.point_.to_use()

    @never_raises
    def on_train_end(self, *_: Any, **__: Any) -> None:
        """The module holds what is to be used; the run is over."""
        self.point_.to_use()
        self.point_.release()
        if self.end_ is not None:
            self.end_()
        if self.control_ is not None:
            self.control_.finish()


def _own_loss(net: Any) -> Loss:
    def loss(module: nn.Module, batch: Any) -> Tensor:
        inputs, targets = unpack_data(batch)
        found: Tensor = net.get_loss(net.infer(inputs), targets, X=inputs, training=True)
        return found

    return loss
