"""`DCAO`: the proposal's optimizer, for those who want one object.

v ← β·v + g + λ·θ;  θ ← θ − η·v, with η, β, λ from the controller. Reference: the proposal's §2.4.

It is torch's SGD (which computes exactly this, foreach and fused included) with the controller attached, so it can be
given to anything that takes an SGD.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import SGD

from dcao_client.hooks.torch_loop import Attachment, Loss, attach


class DCAO(SGD):
    """Momentum SGD whose learning rate, momentum and weight decay follow the curvature.

    Args:
        model: what is trained; needed to measure it.
        loss: `loss(model, batch)`, the mean loss of a batch.
        params: parameters or groups; all of the model's if absent.
        lr, momentum, weight_decay: base values η₀, β₀, λ₀.
        attach_options: everything else that `attach` takes.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> mse = lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1])
        >>> optimizer = DCAO(model, mse, lr=0.1, momentum=0.9, run="doctest", journal_dir="/dev/null/nowhere")
        >>> batch = torch.ones(4, 2), torch.zeros(4, 1)
        >>> mse(model, batch).backward(); optimizer.step(batch=batch)
        >>> optimizer.control.decision.regime
        'stable'
        >>> optimizer.control.finish()
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        params: Iterable[Any] | None = None,
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        **attach_options: Any,
    ) -> None:
        super().__init__(
            model.parameters() if params is None else params, lr=lr, momentum=momentum, weight_decay=weight_decay
        )
        # Before `attach` registers its own hooks: a decision made here is the one that they apply.
        self.register_step_pre_hook(_probe_first)
        self.control: Attachment = attach(model, self, loss, **attach_options)

    if TYPE_CHECKING:

        def step(self, closure: Callable[[], float] | None = None, *, batch: Any = None) -> float | None:  # type: ignore[override]
            """One update; measures the curvature at θ_t first if it is time to and a batch is given.

            The gradient was taken at the same θ_t, so this is the order of §2.4: probe, set η, β, λ, update.
            """


def _probe_first(optimizer: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Takes `batch` out of the call. A hook, because torch wraps `step` and an override would be wrapped twice."""
    batch = kwargs.pop("batch", None)
    if batch is not None:
        optimizer.control.step(batch)
    return args, kwargs
