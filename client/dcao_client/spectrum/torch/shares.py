"""Where the sharpest direction lives: the share of the top eigenvector's square norm in each parameter tensor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcao_client.spectrum.torch.isolation import moved
from dcao_client.spectrum.torch.layout import Layout, real_view


def shares(vector: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, float]:
    """‖v_p‖²/‖v‖² per parameter that the optimizer moves, by name, largest first; they sum to 1.

    Useful to see which layer the edge of stability is in; it says nothing about the others' own curvature.
    """
    wanted = {id(p) for p in moved(model, optimizer)}
    named = [(name, p) for name, p in model.named_parameters() if id(p) in wanted]
    pieces = Layout([p for _, p in named]).unflatten(vector)
    squares = {
        name: float(real_view(piece).double().square().sum()) for (name, _), piece in zip(named, pieces, strict=True)
    }
    total = sum(squares.values()) or 1.0
    return {name: value / total for name, value in sorted(squares.items(), key=lambda item: -item[1])}
