"""The loss as a function of the parameters: which batches, how weighted, summed over which ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dcao_client.spectrum.torch.isolation import freeze_randomness
from dcao_client.spectrum.torch.layout import Layout

Loss = Callable[[nn.Module, Any], Tensor]


class Collective(Protocol):
    """Sums a tensor over the ranks that measure together, in place."""

    def sum_(self, tensor: Tensor) -> None: ...


class Alone:
    """One process: nothing to sum."""

    def sum_(self, tensor: Tensor) -> None:
        """Leave the tensor as it is."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The mean loss over micro-batches and ranks, ready to differentiate.

    Attributes:
        model: what the loss is called with (unwrapped, holding the aliases).
        weights: each micro-batch's share of all examples of all ranks.
        parameters: the tensors to differentiate by.
        generators: those that the model or the loss holds for itself, frozen like the global ones.
        by_backward: not empty once ``autograd.grad`` was found to be refused.
    """

    model: nn.Module
    loss: Loss
    batches: Sequence[Any]
    weights: Sequence[float]
    parameters: Sequence[nn.Parameter]
    layout: Layout
    collective: Collective
    seed: int
    generators: Sequence[Any] = ()
    by_backward: list[bool] = field(default_factory=list)

    def value(self, index: int) -> Tensor:
        """The mean loss of one micro-batch under its frozen randomness.

        Raises:
            TypeError: the callable did not return a scalar tensor.
        """
        freeze_randomness(self.seed + index, self.generators)
        value = self.loss(self.model, self.batches[index])
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(
                f"expected loss(model, batch) to return a scalar tensor, the mean over the batch; got {got}"
            )
        return value.reshape(())

    def first_order(self, index: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One micro-batch's loss and gradient, without a graph.

        By ``backward`` on the aliases where ``autograd.grad`` is refused (reentrant checkpointing).
        """
        if not self.by_backward:
            try:
                value = self.value(index)
                return value.detach(), self.gradients(value, create_graph=False)
            except RuntimeError as error:
                if "checkpoint" not in str(error).lower():
                    raise
                self.by_backward.append(True)
        for parameter in self.parameters:
            parameter.grad = None
        value = self.value(index)
        value.backward()  # type: ignore[no-untyped-call]
        found = tuple(torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters)
        for parameter in self.parameters:
            parameter.grad = None
        return value.detach(), found

    def gradients(self, value: Tensor, *, create_graph: bool) -> tuple[Tensor, ...]:
        """∂value/∂parameters, zeros where a parameter is unused. Touches no ``.grad``."""
        return torch.autograd.grad(
            value, self.parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )


def total_examples(count: int, layout: Layout, collective: Collective) -> int:
    """The examples of all ranks.

    Raises:
        ValueError: there is none.
    """
    total = torch.tensor([float(count)], dtype=torch.float64, device=layout.device)
    collective.sum_(total)
    if total.item() < 1:
        raise ValueError("expected at least one example in the batch; got none")
    return int(total.item())
