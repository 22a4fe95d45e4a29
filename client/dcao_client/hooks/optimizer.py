"""`DCAO`: one object that trains. Without a learning rate it finds the rate itself; with one it is the proposal's SGD.

Without: schedule-free steps at the rate min(s·r/√G, ceiling): the path pushes, curvature holds (`path_optimizer.py`).
With: v ← β·v + g + λ·θ;  θ ← θ − η·v, with η, β, λ from the controller (the proposal's §2.4). That is torch's SGD,
which computes exactly this, with the controller attached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import SGD, Optimizer

from dcao_client.hooks.attachment import Attachment, Loss
from dcao_client.hooks.forms import FormName
from dcao_client.hooks.given import check_closure, check_model
from dcao_client.hooks.path_optimizer import PathOptimizer
from dcao_client.hooks.schedule_free import AVERAGING
from dcao_client.hooks.torch_loop import attach
from dcao_proto import Hyperparameters


class DCAO(Optimizer):
    """Trains a model without a learning rate, a schedule, a warm-up or a length of run.

    Give `step` the batch, so that the curvature can be measured now and then; call `eval()` before you evaluate or
    save the model and `train()` before you go on.

    Args:
        model: what is trained; needed to measure it. Wrappers of DDP and `torch.compile` are looked through.
        loss: `loss(model, batch)`, the mean loss of a batch.
        params: parameters or groups; all of the model's that require a gradient if absent.
        lr, momentum: given, this is momentum SGD under control, η₀ and β₀ its base values; all of `attach` applies.
        form: "adam", "muon" or "sgd": what an update is made of. Under "muon" matrices of hidden layers step by their
            orthogonalised momentum and everything else by Adam's form, all at one rate; a group may say `form`, "muon"
            or "adam", for its parameters. Not for sharded (FSDP) matrices.
        weight_decay: λ, decoupled, of the averaged form; λ₀ of the SGD form.
        averaging: b in (0, 1): where between the newest and the average iterate the gradient is taken.
        options: everything else that `attach` takes, but for trust, policy and bounds where the rate is found: run,
            project, url, policy_params, probe_interval, overhead, …

    Raises:
        ValueError, TypeError: an argument is out of range or does not go with the others.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> mse = lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1])
        >>> optimizer = DCAO(model, mse, run="doctest", journal_dir="/dev/null/nowhere")
        >>> batch = torch.eye(2), torch.ones(2, 1)
        >>> for _ in range(50):
        ...     optimizer.zero_grad(); mse(model, batch).backward(); optimizer.step(batch=batch)
        >>> optimizer.eval(); bool(mse(model, batch) < 0.05)
        True
        >>> optimizer.control.finish()
        True
    """

    control: Attachment

    def __new__(cls, *args: Any, lr: float | None = None, **kwargs: Any) -> DCAO:
        if args:
            check_model(args[0])
        kind = cls if cls is not DCAO else (PathDCAO if lr is None else MomentumDCAO)
        return object.__new__(kind)

    def log(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Numbers of your own, `log(val_accuracy=0.93)` say, kept in the run's history; see `Session.log`."""
        self.control.log(values, **named)

    if TYPE_CHECKING:

        def __init__(
            self,
            model: nn.Module,
            loss: Loss,
            params: Iterable[Any] | None = None,
            *,
            lr: float | None = None,
            momentum: float = 0.9,
            form: FormName = "adam",
            weight_decay: float = 0.0,
            averaging: float = AVERAGING,
            **options: Any,
        ) -> None: ...

        def step(self, closure: Callable[[], float] | None = None, *, batch: Any = None) -> float | None:  # type: ignore[override]
            """One update; measures the curvature first if it is time to and a batch is given."""

        def train(self) -> None:
            """The model trains from now on."""

        def eval(self, batches: Iterable[Any] | None = None) -> None:
            """The model is evaluated or saved from now on."""


class MomentumDCAO(DCAO, SGD):
    """Momentum SGD whose values follow the curvature: `DCAO(model, loss, lr=…)`."""

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
        SGD.__init__(
            self, model.parameters() if params is None else params, lr=lr, momentum=momentum, weight_decay=weight_decay
        )
        # Before `attach` registers its own hooks: a decision made here is the one that they apply.
        self.register_step_pre_hook(_probe_first)
        self.control = attach(model, self, loss, **attach_options)

    @property
    def steps(self) -> int:
        """Optimizer steps so far."""
        return self.control.steps

    @property
    def applied(self) -> Hyperparameters | None:
        """What the last one used."""
        return self.control.applied

    def train(self) -> None:
        """Nothing: the model always holds what is trained."""

    def eval(self, batches: Iterable[Any] | None = None) -> None:
        """Nothing: the model always holds what is trained."""


class PathDCAO(DCAO, PathOptimizer):
    """Schedule-free steps at a rate that nobody sets: `DCAO(model, loss)`."""


def _probe_first(optimizer: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Takes `batch` out of the call. A hook, because torch wraps `step` and an override would be wrapped twice."""
    check_closure(args[1] if len(args) > 1 else None)
    batch = kwargs.pop("batch", None)
    if batch is not None or optimizer.control.brings_data:
        optimizer.control.step(batch)
    return args, kwargs
