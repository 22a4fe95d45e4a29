"""Hessian-vector products from differences of ordinary gradients, with every kink held.

Cost in units of one gradient: 1 for the point itself, then 1 per product (one-sided), against 2.2 for double
backward, at a gradient's own memory plus the recorded masks. Works with fused attention, reentrant
checkpointing and anything else that has a first derivative.

Accuracy: a step h along a unit vector costs h/2·‖D³L‖ of truncation and about 1e-7·‖g‖/h of rounding; at
    the best h (about 2e-5·‖w‖ in float32) products are right to 1e-3 to 5e-3 (2e-2 with batch norm). One-sided
    products step forwards and backwards in turns: the truncation of one has the sign opposite to that of the next, so
    that most of it cancels in a Ritz value, and what there is shows as asymmetry of the projected matrix. With all
    steps forwards it is the same bias in every entry: symmetric, unseen, and two to five times the error in λ₁. Not
    for half-precision parameters or autocast forwards, whose rounding exceeds the difference; not for λ_min of
    networks whose edge is small beside λ₁.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from dcao_client.spectrum.torch.channels_last import images_reordered, reordered, worthwhile
from dcao_client.spectrum.torch.kinks import FrozenKinks
from dcao_client.spectrum.torch.onednn import OneDNN
from dcao_client.spectrum.torch.problem import Problem
from dcao_client.spectrum.vectors import Space, norm

# Step length as a fraction of ‖w‖, measured best on convolutional, residual, attention and dense networks
# alike within a factor of three; the float64 value scales with the square root of the unit roundoff.
STEP = {torch.float32: 2e-5, torch.float64: 1e-9}
# Of the one-sided step. With batch norm the worst errors of λ₁ were 5e-3 at 0.5, 1.5e-2 at 1 and 8e-2 at 3; the medians
# are alike (``benchmarks/probe_differences.py``).
CENTRAL = 0.5


class FiniteDifference:
    """H v ≈ (g(w ± h v) − g(w))/±h with the sign changing each time, or central with both (two gradients, error h²)."""

    kind = "finite_difference"

    def __init__(
        self,
        problem: Problem,
        *,
        step: float | None = None,
        central: bool = False,
        held: bool = True,
        channels_last: bool = False,
        onednn: bool = False,
    ) -> None:
        """Evaluate the gradient at the point itself and record its kinks.

        Args:
            step: length of the shift in weight space; by default a fraction of ‖w‖.
            held: replay the kinks; without it the product is wrong for networks that have any.
            channels_last: evaluate convolutions in that order where it is worthwhile; a model that asks for strides
                (``view`` of an activation) may then raise RuntimeError.
            onednn: multiply by oneDNN in linear layers; a model that maps over its layers (``torch.func.vmap``) may
                then raise RuntimeError.
        """
        self.central, self.onednn = central, onednn
        self.points = [p.detach() for p in problem.parameters]
        self.channels_last = channels_last and worthwhile(self.points, problem.batches)
        self.problem, self.begin = problem, self.points
        if self.channels_last:
            self.problem = replace(problem, batches=[images_reordered(batch) for batch in problem.batches])
            self.begin = [reordered(point) for point in self.points]
        layout = problem.layout
        self.length = norm(layout.flatten(self.points)) or 1.0
        self.step = step if step is not None else STEP[layout.dtype] * self.length
        self.kinks = [FrozenKinks() if held else None for _ in problem.weights]
        total = self._evaluate(self.begin, first=True)
        self.loss, self.gradient = float(total[-1]), total[:-1].clone()
        self.space = Space(problem.layout.size)
        self.side = 1.0
        self.floor = 1e-4 if layout.dtype is torch.float32 else 1e-7

    def product(self, vector: Tensor) -> Tensor:
        length = float(vector.norm())  # of a step: it need not be exact
        if length == 0.0:
            return torch.zeros_like(vector)
        h = self.side * self.step / length
        pieces = self.problem.layout.unflatten(vector)
        out = self._evaluate(self._shifted(pieces, h))[:-1]
        if not self.central:
            self.side = -self.side
            return out.sub_(self.gradient).div_(h)
        return out.sub_(self._evaluate(self._shifted(pieces, -h))[:-1]).div_(2 * h)

    @property
    def rough(self) -> bool:
        """Whether products are one-sided."""
        return not self.central

    @contextlib.contextmanager
    def accurately(self) -> Iterator[None]:
        """Central products within."""
        step, central = self.step, self.central
        self.step, self.central = step * CENTRAL, True
        try:
            yield
        finally:
            self.step, self.central = step, central

    def close(self) -> None:
        for kinks in self.kinks:
            if kinks is not None:
                kinks.tape.clear()

    def _shifted(self, pieces: list[Tensor], h: float) -> list[Tensor]:
        return list(torch._foreach_add(self.begin, pieces, alpha=h))

    def _evaluate(self, values: list[Tensor], *, first: bool = False) -> Tensor:
        """The gradient at other weights and, last, the loss, summed over micro-batches and ranks.

        The aliases point at ``values`` for the while; the weights themselves are never written.
        """
        total: Tensor | None = None
        try:
            for alias, value in zip(self.problem.parameters, values, strict=True):
                alias.data = value
            for index, weight in enumerate(self.problem.weights):
                local = self._gradient(index, first=first)
                if weight != 1.0:
                    local.mul_(weight)
                total = local if total is None else total.add_(local)
        finally:
            for alias, point in zip(self.problem.parameters, self.points, strict=True):
                alias.data = point
        if total is None:  # a rank without examples
            layout = self.problem.layout
            total = torch.zeros(layout.size + 1, dtype=layout.dtype, device=layout.device)
        self.problem.collective.sum_(total)
        return total

    def _gradient(self, index: int, *, first: bool) -> Tensor:
        """One micro-batch's gradient and loss, on the pieces of the first time."""
        kinks = self.kinks[index]
        with contextlib.ExitStack() as stack:
            if self.onednn:
                stack.enter_context(OneDNN())
            if kinks is not None and (first or kinks.tape):
                stack.enter_context(kinks.recording() if first else kinks.replaying())
            loss, gradients = self.problem.first_order(index)
        return self.problem.layout.flatten([*gradients, loss])
