"""Back to the last healthy state of a run, when training has diverged.

A decision on a loss or a curvature that is not finite advises `rollback`. Who wants that done, not only said, gives
`attach(rollback=True)`: then weights, optimizer state and the path are kept in host memory now and then, and put
back; push and ceiling stay halved, which is the policy's memory and is not rolled back. `rollback=function` calls a
function of yours instead, which loads your own checkpoint.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

EVERY = 250  # steps from one copy to the next: three vectors to the host are not for every probe


class Progress(Protocol):
    """What beside weights and optimizer state belongs to a point of the run."""

    def checkpoint(self) -> dict[str, Any]: ...

    def resume(self, state: dict[str, Any]) -> None: ...


class LastGood:
    """Keeps one healthy state in host memory.

    Args:
        model, optimizer, progress: what is kept together.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
        self._model, self._optimizer, self._progress = model, optimizer, progress
        self._kept: tuple[dict[str, Tensor], dict[Tensor, dict[str, Any]], dict[str, Any]] | None = None
        self._step = -EVERY

    @torch.no_grad()
    def healthy(self, step: int) -> None:
        """The run is well at this step: keeps it if the last copy is old enough."""
        if step - self._step < EVERY:
            return
        self._step = step
        weights = {name: _to_host(value) for name, value in self._tensors().items()}
        state = {
            p: {name: _to_host(v) if isinstance(v, Tensor) else v for name, v in values.items()}
            for p, values in self._optimizer.state.items()
        }
        self._kept = weights, state, self._progress.checkpoint()

    @torch.no_grad()
    def __call__(self) -> bool:
        """Puts the kept state back, in place; False if there is none."""
        if self._kept is None:
            return False
        weights, state, progress = self._kept
        for name, value in self._tensors().items():
            value.copy_(weights[name])
        for p in list(self._optimizer.state):
            if p not in state:
                del self._optimizer.state[p]
        for p, values in state.items():
            now = self._optimizer.state[p]
            for name, value in values.items():
                now[name] = (
                    value.to(now[name] if isinstance(now.get(name), Tensor) else p, copy=True)
                    if isinstance(value, Tensor)
                    else value
                )
        for group in self._optimizer.param_groups:
            for p in group["params"]:
                p.grad = None  # of the point that was left
        self._progress.resume(progress)
        return True

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, without going through `state_dict`, whose hooks are for others."""
        return {**dict(self._model.named_parameters()), **{f"buffer {n}": b for n, b in self._model.named_buffers()}}


def _to_host(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True)
