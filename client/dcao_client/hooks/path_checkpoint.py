"""Checkpoints of `DCAO(model, loss)`: torch's, and under "dcao" what a run needs to go on exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from dcao_client.checkpoint import check_keys
from dcao_client.errors import CheckpointError

if TYPE_CHECKING:
    from dcao_client.hooks.path_optimizer import PathOptimizer

MADE_BY = "DCAO(model, loss).state_dict()"


def check_saved(optimizer: PathOptimizer, saved: Any) -> Any:
    """What the control of such an optimizer saved.

    Raises:
        CheckpointError: the checkpoint is of another kind of optimizer, or of another form.
    """
    check_keys(saved, ("dcao", "param_groups", "state"), MADE_BY)
    for p, values in _saved(optimizer, saved):
        if "z" in values and (optimizer.form.name_of(p) or "z") not in values:
            raise CheckpointError(
                f"expected a checkpoint of the same form, with {optimizer.form.name_of(p)!r} of a parameter of shape "
                f"{tuple(p.shape)}; got one with {sorted(values)}: give DCAO the form and groups it was saved under"
            )
    return saved["dcao"]


def keep_precision(optimizer: PathOptimizer, saved: dict[str, Any]) -> None:
    """torch gives loaded state the parameters' dtype; ours keeps float32 beside parameters of lower precision."""
    for p, values in _saved(optimizer, saved):
        for name, value in values.items():
            optimizer.state[p][name] = value.detach().to(device=p.device, copy=True)


def _saved(optimizer: PathOptimizer, saved: dict[str, Any]) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """The parameters with what a checkpoint has of each."""
    numbers = [i for group in saved["param_groups"] for i in group["params"]]
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return [(p, saved["state"].get(i, {})) for i, p in zip(numbers, params, strict=False)]
