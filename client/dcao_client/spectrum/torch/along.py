"""Slope and curvature along a given update, whole and per parameter group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.result import Directional, finite
from dcao_client.spectrum.torch.layout import Layout


@dataclass(frozen=True, slots=True)
class Along:
    """An update, one tensor per trainable parameter, and whether the optimizer's groups are wanted apart."""

    direction: Sequence[Tensor]
    groups: bool = False
    optimizer: torch.optim.Optimizer | None = None


def directional(
    operator: Curvature,
    along: Along,
    real: Sequence[nn.Parameter],
) -> tuple[Directional | None, tuple[Directional, ...], int]:
    """−gᵀu and uᵀHu, the same with u restricted to each group, and the products it took.

    Raises:
        ValueError: the direction does not fit the parameters.
    """
    if [d.shape for d in along.direction] != [p.shape for p in real]:
        raise ValueError("expected a direction with one tensor per trainable parameter, in parameters() order")
    layout = Layout(list(real))
    whole = _one(operator, layout.flatten(list(along.direction)), None)
    if not along.groups or along.optimizer is None:
        return whole, (), 1
    parts = []
    for index, group in enumerate(along.optimizer.param_groups):
        members = {id(p) for p in group["params"]}
        pieces = [d if id(p) in members else torch.zeros_like(d) for p, d in zip(real, along.direction, strict=True)]
        part = _one(operator, layout.flatten(pieces), str(group.get("name", index)))
        parts += [part] if part is not None else []
    return whole, tuple(parts), 1 + len(along.optimizer.param_groups)


def _one(operator: Curvature, u: Tensor, name: str | None) -> Directional | None:
    space = operator.space
    slope = finite(-space.dot(operator.gradient, u))
    curvature = finite(space.dot(u, operator.product(u)))
    return None if slope is None or curvature is None else Directional(slope, curvature, name)


def of_moved(
    real: Sequence[nn.Parameter], every: Sequence[nn.Parameter], direction: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Of one tensor per trainable parameter those of the parameters that move."""
    if len(direction) != len(every):
        return direction
    wanted = {id(p) for p in real}
    return [d for d, p in zip(direction, every, strict=True) if id(p) in wanted]
