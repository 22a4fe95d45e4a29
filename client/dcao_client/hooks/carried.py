"""A learning rate scheduler carries our state along, where a framework saves nothing else that can hold a tensor.

torch's schedulers save what stands in their `__dict__` and put back what they read there, and every framework that
checkpoints a scheduler does so with the optimizer. It is put in when the state is asked for and taken out at the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
