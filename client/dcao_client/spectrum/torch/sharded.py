"""Curvature products for fully sharded (FSDP2) models, by differences of ordinary backward passes.

Second-order autograd does not reach sharded parameters, and a borrowed copy of them would not be
communicated. So the real shards are shifted and put back bit for bit, ``backward`` runs as in training, and
the ``.grad`` that was there is set aside. Every vector is sharded like the parameters: a rank holds its
part, inner products are all-reduced scalars.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dcao_client.spectrum.operators import Exact
from dcao_client.spectrum.torch.finite_difference import STEP
from dcao_client.spectrum.torch.kinks import FrozenKinks
from dcao_client.spectrum.torch.problem import Collective, Problem
from dcao_client.spectrum.vectors import Space


def is_sharded(parameters: Sequence[Tensor]) -> bool:
    """Whether the parameters are DTensors (FSDP2, tensor parallel)."""
    return any(hasattr(p, "to_local") for p in parameters)


def local(tensor: Any) -> Tensor:
    """This rank's part of a DTensor; any other tensor itself."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


class UnevenRanksError(RuntimeError):
    """Not every rank of a sharded model can take part in every forward pass."""


def need_all(batches: int, device: torch.device, collective: Collective, *, sharded: bool) -> None:
    """See that every rank has as many micro-batches with examples as the others, and one at least. A collective.

    Asked first: a forward pass that not all come to would wait for the others until the training's group gives up.

    Raises:
        UnevenRanksError: on every rank.
    """
    if not sharded:
        return
    sums = torch.tensor([1.0, batches, batches**2, float(batches == 0)], dtype=torch.float64, device=device)
    collective.sum_(sums)
    ranks, total, squares, empty = sums.tolist()
    if empty or ranks * squares != total**2:
        raise UnevenRanksError(
            "a rank of a sharded model has no examples in this batch, or another number of micro-batches than the "
            "others: its shards are needed in each of their forward passes"
        )


class ShardedSpace(Space):
    """Vectors of which each rank holds a part."""

    def __init__(self, size: int, collective: Collective) -> None:
        super().__init__(size)
        self.collective = collective

    def reduce_(self, partial: Tensor) -> Tensor:
        self.collective.sum_(partial)
        return partial


class ShardedDifference(Exact):
    """Central differences (two backward passes a product) on this rank's shards."""

    kind = "finite_difference"

    def __init__(self, problem: Problem, *, ranks: int, step: float | None = None) -> None:
        """Evaluate the gradient at the point itself.

        Args:
            ranks: data-parallel ranks; the sharded backward averages over them, so each local mean is
                weighted by
                its examples times this.
        """
        self.problem, self.ranks = problem, ranks
        self.parts = [local(p.detach()) for p in problem.parameters]
        self.points = [part.clone() for part in self.parts]
        layout = problem.layout
        count = torch.tensor([float(layout.size)], dtype=torch.float64)
        problem.collective.sum_(count)
        self.space: Space = ShardedSpace(int(count.item()), problem.collective)
        length = self.space.norm(layout.flatten(self.points))
        self.step = step if step is not None else 4 * STEP[layout.dtype] * (length or 1.0)
        self.kinks = [FrozenKinks() for _ in problem.weights]
        self.gradient, self.loss = self._evaluate(first=True)
        self.floor = 1e-4 if layout.dtype is torch.float32 else 1e-7

    def product(self, vector: Tensor) -> Tensor:
        length = self.space.norm(vector)
        if length == 0.0:
            return torch.zeros_like(vector)
        h = self.step / length
        pieces = self.problem.layout.unflatten(vector)
        try:
            self._place([point.add(piece, alpha=h) for point, piece in zip(self.points, pieces, strict=True)])
            above, _ = self._evaluate()
            self._place([point.add(piece, alpha=-h) for point, piece in zip(self.points, pieces, strict=True)])
            below, _ = self._evaluate()
        finally:
            self._place(self.points)
        return above.sub_(below).div_(2 * h)

    def close(self) -> None:
        self._place(self.points)
        for kinks in self.kinks:
            kinks.tape.clear()

    def _place(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for part, value in zip(self.parts, values, strict=True):
                part.copy_(value)

    def _evaluate(self, *, first: bool = False) -> tuple[Tensor, float]:
        parameters, layout = self.problem.parameters, self.problem.layout
        kept = [p.grad for p in parameters]
        for p in parameters:
            p.grad = None
        loss = torch.zeros(1, dtype=torch.float64)
        try:
            for index, weight in enumerate(self.problem.weights):
                kinks = self.kinks[index]
                with kinks.recording() if first else kinks.replaying():
                    value = self.problem.value(index)
                    (value * (weight * self.ranks)).backward()  # type: ignore[no-untyped-call]
                loss += weight * float(value.detach())
            found = [
                torch.zeros_like(s) if p.grad is None else local(p.grad)
                for p, s in zip(parameters, self.parts, strict=True)
            ]
            flat = layout.flatten(found)
        finally:
            for p, grad in zip(parameters, kept, strict=True):
                p.grad = grad
        self.problem.collective.sum_(loss)
        return flat, float(loss)
