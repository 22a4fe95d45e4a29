"""What the adapters to training frameworks share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from dcao_client.errors import DcaoError
from dcao_client.hooks.attachment import Attachment, Loss
from dcao_client.hooks.disabled import Disabled
from dcao_client.hooks.optimizer import DCAO
from dcao_client.hooks.path_optimizer import PathOptimizer
from dcao_client.hooks.torch_loop import attach
from dcao_client.settings import HookSettings
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.torch.distributed import Ranks


def refuses_only(hook: Callable[..., None]) -> Callable[..., None]:
    """A hook that attaches: it may refuse what cannot be controlled; whatever else goes wrong is logged."""

    @functools.wraps(hook)
    def attaches(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except (ValueError, TypeError, DcaoError):
            raise
        except Exception as error:  # noqa: BLE001  (see above)
            self.once.warn("attach", "DCAO could not attach (%s: %s); training goes on", type(error).__name__, error)

    return attaches


def attached(model: nn.Module, optimizer: Any, loss: Callable[[], Loss], options: dict[str, Any]) -> Attachment:
    """`attach` over all ranks, or the control that a `DCAO` brings. A collective.

    Args:
        loss: gives the loss; called only where one is needed, for it may refuse.

    Raises:
        ValueError: see `attach` and `own_control`.
    """
    if isinstance(optimizer, DCAO):
        return own_control(optimizer, options)
    if not HookSettings.read().enabled:
        return Disabled()
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(
            f"expected a torch optimizer, got {type(optimizer).__module__}.{type(optimizer).__name__}, which takes its "
            "steps out of sight; train without DeepSpeed (DDP or FSDP2), or set DCAO_ENABLED=0"
        )
    return attach(model, optimizer, loss(), **{"collective": all_ranks(options.get("probe")), **options})


def all_ranks(settings: ProbeSettings | None = None) -> Ranks | None:
    """A process group of the probe's own over every rank of the job; None for a single process. A collective."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    return Ranks.of_all((settings or ProbeSettings()).timeout)


def own_control(optimizer: Any, options: dict[str, Any]) -> Attachment:
    """The control that a `DCAO` optimizer brings, measuring over all ranks from now on. A collective.

    Raises:
        ValueError: options were given that belong where the optimizer is made, or it was made before the ranks were.
    """
    if options:
        raise ValueError(
            f"expected DCAO to be told {', '.join(sorted(options))} where it is made, got them in the callback; write "
            "DCAO(model, loss, ...) with them and CurvatureCallback() without"
        )
    control: Attachment = optimizer.control
    if isinstance(control, Disabled):
        return control
    ranks = all_ranks()
    if ranks is not None:
        if control.session is not None and dist.get_rank() != 0:
            raise ValueError(
                "expected DCAO to be made after the process group, got it made before: every rank would be a run of "
                "its own; make it in configure_optimizers, or after TrainingArguments or Accelerator"
            )
        control.measure_over(ranks)
    return control


class Point:
    """Which point the model of an optimizer holds: a `DCAO`'s is x while it is used and y while it trains.

    Args:
        optimizer: any; nothing is done for one that has a single point.
    """

    def __init__(self, optimizer: Any = None) -> None:
        self._ours = optimizer if isinstance(optimizer, PathOptimizer) else None
        self._upcoming: Any = None  # the batch of the next step, which the framework calls without one
        if self._ours is not None:
            self._hook = self._ours.register_step_pre_hook(self._bring)

    @property
    def saves_control(self) -> bool:
        """Whether the optimizer's own state holds what its control needs."""
        return self._ours is not None

    def to_use(self) -> bool:
        """The model is evaluated or saved from now on; whether it trained until now."""
        if self._ours is None or not self._ours.training:
            return False
        with torch.inference_mode(False):  # what is kept here trains on later
            self._ours.eval()
        return True

    def to_train(self) -> None:
        """The model trains from now on."""
        if self._ours is not None:
            self._ours.train()

    def measure(self, control: Attachment, batch: Any) -> None:
        """Measures on this batch if it is time to: now, or in the step of an optimizer that does so itself."""
        if self._ours is not None:
            self._upcoming = batch
        else:
            control.step(batch)

    def release(self) -> None:
        """The optimizer is on its own again."""
        if self._ours is not None:
            self._hook.remove()

    def _bring(self, optimizer: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        batch, self._upcoming = self._upcoming, None
        return args, {"batch": batch, **kwargs}
