"""A small network, its batch, and its Hessian in full."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def dense_hessian(model: nn.Module, loss: Any, batch: Any) -> np.ndarray:
    """The whole Hessian, one row per parameter, by differentiating each gradient entry."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradient = torch.autograd.grad(loss(model, batch), parameters, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradient])
    rows = [
        torch.cat([h.reshape(-1) for h in torch.autograd.grad(entry, parameters, retain_graph=True)]) for entry in flat
    ]
    return torch.stack(rows).detach().numpy()


@pytest.fixture
def loss() -> Callable[..., Tensor]:
    return cross_entropy


@pytest.fixture
def hessian() -> Callable[..., np.ndarray]:
    return dense_hessian


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 1, 8, 8, generator=generator)
    return x, torch.randint(0, 3, (32,), generator=generator)


@pytest.fixture
def kinked() -> nn.Module:
    """Kinks of every common kind: relu in and out of place, leaky relu, max pooling, clamp."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 3, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.ReLU6(),
        nn.Linear(6, 3),
    )
