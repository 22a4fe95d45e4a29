"""Our state travels in what a framework saves anyway, where it saves nothing else that can hold a tensor.

torch's schedulers save what stands in their `__dict__` and put back what they read there; torch's optimizers do so with
entries of their `state` that are no parameter's. It is put in when the state is asked for and taken out at the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

KEPT = "dcao"


def brought(scheduler: Any) -> dict[str, Any] | None:
    """What a checkpoint brought in the scheduler; None without one, or where the run went on without us since."""
    kept: dict[str, Any] | None = scheduler.__dict__.pop(KEPT, None)
    return kept["state"] if kept is not None and kept["at"] == scheduler.last_epoch else None


def carry(scheduler: Any, state: Callable[[], dict[str, Any] | None]) -> None:
    """From now on the scheduler's state holds what `state` gives, if it gives anything."""
    if not isinstance(scheduler, LRScheduler):
        return
    put_down(scheduler)
    plain = scheduler.state_dict

    def state_dict() -> dict[str, Any]:
        found = {name: value for name, value in plain().items() if name != "state_dict"}
        ours = state()
        return found if ours is None else {**found, KEPT: {"at": scheduler.last_epoch, "state": ours}}

    scheduler.state_dict = state_dict  # type: ignore[method-assign]


def put_down(scheduler: Any) -> None:
    """The scheduler is as it was."""
    scheduler.__dict__.pop("state_dict", None)


def carry_in_optimizer(optimizer: Optimizer, state: Callable[[], dict[str, Any] | None]) -> Callable[[], None]:
    """The same in the optimizer's own state, for frameworks that save no scheduler. Not for sharded parameters.

    Returns:
        Ends it; what `state` gives then stays in the optimizer, for its next training.
    """

    def put_in(optimizer: Optimizer) -> None:
        if (ours := state()) is not None:
            _others(optimizer)[KEPT] = ours

    def take_out(optimizer: Optimizer, saved: dict[str, Any]) -> None:
        _others(optimizer).pop(KEPT, None)

    hooks = [optimizer.register_state_dict_pre_hook(put_in), optimizer.register_state_dict_post_hook(take_out)]

    def end() -> None:
        put_in(optimizer)
        for hook in hooks:
            hook.remove()

    return end


def brought_in_optimizer(optimizer: Optimizer) -> dict[str, Any] | None:
    """What a checkpoint or an earlier training left in the optimizer."""
    kept: dict[str, Any] | None = _others(optimizer).pop(KEPT, None)
    return kept


def _others(optimizer: Optimizer) -> Any:
    """What torch says is by parameter; it saves and loads entries of other names as they are."""
    return optimizer.state
