"""Hessian-vector products by differentiating gᵀv, on a graph that is built once.

Cost in units of one gradient of the same batch (float32, CPU, measured on a residual and an attention
network): build 1.2 to 1.5, product 2.2 kept or 3.3 rebuilt; the floor for matrix products is 2. Memory 3 to
3.6 times a gradient's activations.
Not for: fused attention kernels (no second derivative; ``isolated`` selects the math kernel), reentrant
checkpointing, fully sharded parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dcao_client.spectrum.operators import Exact
from dcao_client.spectrum.ritz import FLOORS
from dcao_client.spectrum.torch.problem import Problem
from dcao_client.spectrum.vectors import Space


class DoubleBackward(Exact):
    """H v = ∂(gᵀv)/∂w with g = ∂L/∂w kept differentiable (Pearlmutter 1994, by reverse over reverse)."""

    kind = "double_backward"

    def __init__(self, problem: Problem, *, keep: bool) -> None:
        """Run the first backward of every micro-batch; hold the graphs when ``keep``."""
        self.problem, self.keep = problem, keep
        self.graphs: list[tuple[Tensor, ...]] = []
        layout = problem.layout
        total = torch.zeros(layout.size + 1, dtype=layout.dtype, device=layout.device)
        for index, weight in enumerate(problem.weights):
            value = problem.value(index)
            gradients = problem.gradients(value, create_graph=keep)
            total[:-1].add_(layout.flatten(gradients), alpha=weight)
            total[-1].add_(value.detach().to(total), alpha=weight)
            if keep:
                self.graphs.append(gradients)
        problem.collective.sum_(total)
        self.loss = float(total[-1])
        self.gradient = total[:-1].clone()
        self.space = Space(problem.layout.size)
        self.floor = FLOORS[str(layout.dtype).removeprefix("torch.")]

    def product(self, vector: Tensor) -> Tensor:
        layout, pieces = self.problem.layout, self.problem.layout.unflatten(vector)
        total: Tensor | None = None
        for index, weight in enumerate(self.problem.weights):
            gradients = self.graphs[index] if self.keep else self._rebuild(index)
            local = layout.flatten(self._second(gradients, pieces))
            if weight != 1.0:
                local.mul_(weight)
            total = local if total is None else total.add_(local)
        if total is None:  # a rank without examples
            total = torch.zeros_like(vector)
        self.problem.collective.sum_(total)
        return total

    def close(self) -> None:
        self.graphs.clear()

    def _rebuild(self, index: int) -> tuple[Tensor, ...]:
        return self.problem.gradients(self.problem.value(index), create_graph=True)

    def _second(self, gradients: tuple[Tensor, ...], pieces: list[Tensor]) -> tuple[Tensor, ...]:
        curved = [(g, v) for g, v in zip(gradients, pieces, strict=True) if g.requires_grad]
        if not curved:
            return tuple(torch.zeros_like(p) for p in self.problem.parameters)
        return torch.autograd.grad(
            [g for g, _ in curved],
            self.problem.parameters,
            grad_outputs=[v for _, v in curved],
            retain_graph=self.keep,
            allow_unused=True,
            materialize_grads=True,
        )
