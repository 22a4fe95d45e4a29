"""Gauss–Newton products: the part of the Hessian that goes through the model's outputs.

G = Jᵀ H_ℓ J, positive semi-definite, with J the outputs' Jacobian and H_ℓ the loss's Hessian in the outputs
(Schraudolph 2002). Close to H's top once the fit is good, but another matrix: its values carry another
fingerprint.

Cost in units of one gradient: build 2, product 1.4 (J v by differentiating Jᵀu in u, on a kept graph, then
    Jᵀ). Needs no second derivative of the model's own functions with respect to their inputs' curvature,
    only of the loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dcao_client.spectrum.operators import Exact
from dcao_client.spectrum.ritz import FLOORS
from dcao_client.spectrum.torch.problem import Problem
from dcao_client.spectrum.vectors import Space


class CrossEntropy:
    """Mean cross-entropy over all leading dimensions, with its output Hessian in closed form.

    Use as the probe's loss when logits are large: the closed form holds one copy of them where autograd
    holds four.
    """

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        logits = model(batch[0])
        return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[1].reshape(-1))

    def output_curvature(self, outputs: Tensor, batch: Any, vector: Tensor) -> Tensor:
        """(diag(p) − ppᵀ)u / N per row, p = softmax(outputs)."""
        rows = outputs.numel() // outputs.shape[-1]
        p = outputs.detach().softmax(-1)
        weighted = p * vector
        return (weighted - p * weighted.sum(-1, keepdim=True)) / rows


class GaussNewton(Exact):
    """G v for a model whose forward returns one tensor that the loss is computed from."""

    kind = "gauss_newton"

    def __init__(self, problem: Problem) -> None:
        """Raises RuntimeError when the model's outputs cannot be told from its loss."""
        self.problem = problem
        self.parts = [self._linearise(index) for index in range(len(problem.weights))]
        layout = problem.layout
        total = torch.zeros(layout.size + 1, dtype=layout.dtype, device=layout.device)
        for (outputs, leaf, slope, _, _, value), weight in zip(self.parts, problem.weights, strict=True):
            gradient = torch.autograd.grad(
                outputs,
                problem.parameters,
                grad_outputs=slope.detach().view_as(leaf),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            total.add_(layout.flatten([*gradient, value]), alpha=weight)
        problem.collective.sum_(total)
        self.loss, self.gradient = float(total[-1]), total[:-1].clone()
        self.space = Space(problem.layout.size)
        self.floor = FLOORS[str(layout.dtype).removeprefix("torch.")]

    def product(self, vector: Tensor) -> Tensor:
        layout, pieces = self.problem.layout, self.problem.layout.unflatten(vector)
        total = torch.zeros_like(vector)
        for index, weight in enumerate(self.problem.weights):
            outputs, leaf, slope, probe, pulled, _ = self.parts[index]
            used = [(t, v) for t, v in zip(pulled, pieces, strict=True) if t.requires_grad]
            (pushed,) = torch.autograd.grad(
                [t for t, _ in used], [probe], grad_outputs=[v for _, v in used], retain_graph=True
            )
            bent = self._bend(index, leaf, slope, pushed)
            back = torch.autograd.grad(
                outputs,
                self.problem.parameters,
                grad_outputs=bent,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            total.add_(layout.flatten(back), alpha=weight)
        self.problem.collective.sum_(total)
        return total

    def close(self) -> None:
        self.parts.clear()

    def _bend(self, index: int, leaf: Tensor, slope: Tensor, pushed: Tensor) -> Tensor:
        closed = getattr(self.problem.loss, "output_curvature", None)
        if closed is not None:
            bent: Tensor = closed(leaf, self.problem.batches[index], pushed)
            return bent
        (bent,) = torch.autograd.grad(
            slope, [leaf], grad_outputs=pushed, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return bent

    def _linearise(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, ...], Tensor]:
        """Outputs, the leaf the loss sees instead, ∂ℓ/∂leaf, u, Jᵀu as a function of u, and the loss."""
        caught: list[tuple[Tensor, Tensor]] = []

        def split(_: nn.Module, __: Any, outputs: Any) -> Tensor:
            if not isinstance(outputs, Tensor) or caught:
                raise RuntimeError(
                    "Gauss-Newton needs a model whose forward is called once and returns one tensor; got "
                    + ("a second call" if caught else type(outputs).__name__)
                )
            caught.append((outputs, outputs.detach().requires_grad_(True)))
            return caught[0][1]

        handle = self.problem.model.register_forward_hook(split)
        try:
            value = self.problem.value(index)
        finally:
            handle.remove()
        if not caught:
            raise RuntimeError("Gauss-Newton needs a loss that calls the model it is given; it was not called")
        outputs, leaf = caught[0]
        (slope,) = torch.autograd.grad(value, [leaf], create_graph=True)
        probe = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs,
            self.problem.parameters,
            grad_outputs=probe,
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return outputs, leaf, slope, probe, pulled, value.detach()
