"""Small networks drawn by a seed, a few steps into a training, and the eigenvalues of their dense Hessians."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dcao_client.spectrum.torch.layout import Layout
from dcao_client.spectrum.torch.precondition import rule, scaling

ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.Tanh, nn.ReLU, nn.GELU)
BATCHES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


class Attention(nn.Module):
    """One head of attention over a few places, with a shortcut, a layer and a mean."""

    def __init__(self, width: int, activation: nn.Module, outputs: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.head = nn.Sequential(activation, nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.head((x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))).mean(1))


@dataclass(frozen=True)
class Drawn:
    """A model where a short training left it, single precision, and what is measured of it."""

    name: str
    model: nn.Module
    loss: Callable[[nn.Module, Any], Tensor]
    batch: tuple[Tensor, Tensor]
    optimizer: torch.optim.Optimizer


def _mlp(pick: random.Random, outputs: int) -> tuple[nn.Module, tuple[int, ...]]:
    activation, inputs, width = pick.choice(ACTIVATIONS), pick.randint(2, 6), pick.randint(3, 8)
    inner = [nn.Linear(width, width), activation()] if pick.random() < 0.5 else []
    return nn.Sequential(nn.Linear(inputs, width), activation(), *inner, nn.Linear(width, outputs)), (inputs,)


def _conv(pick: random.Random, outputs: int) -> tuple[nn.Module, tuple[int, ...]]:
    activation, channels = pick.choice(ACTIVATIONS), pick.randint(2, 4)
    pool = pick.choice((nn.MaxPool2d(2), nn.AvgPool2d(2)))
    net = nn.Sequential(nn.Conv2d(1, channels, 3), activation(), pool, nn.Flatten(), nn.Linear(4 * channels, outputs))
    return net, (1, 6, 6)


def _attention(pick: random.Random, outputs: int) -> tuple[nn.Module, tuple[int, ...]]:
    width = pick.randint(2, 4)
    return Attention(width, pick.choice(ACTIVATIONS)(), outputs), (pick.randint(3, 5), width)


def draw(seed: int) -> Drawn:
    """An MLP, a convolution or an attention, zero to thirty steps of SGD or Adam away from its start."""
    pick = random.Random(seed)
    torch.manual_seed(seed)
    classes = pick.choice((0, 2, 3, 4))  # 0: a regression
    outputs = classes or pick.randint(1, 3)
    family = pick.choice((_mlp, _conv, _attention))
    model, shape = family(pick, outputs)
    size, adam = pick.choice(BATCHES), pick.random() < 0.5
    loss = _cross_entropy if classes else squares

    def batch() -> tuple[Tensor, Tensor]:
        x = torch.randn(size, *shape)
        return x, torch.randint(0, classes, (size,)) if classes else torch.randn(size, outputs)

    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(model.parameters(), lr=1e-2) if adam else torch.optim.SGD(model.parameters(), lr=0.05)
    )
    for _ in range(pick.choice((0, 1, 5, 30))):
        optimizer.zero_grad()
        loss(model, batch()).backward()
        optimizer.step()
    optimizer.zero_grad()
    name = f"{seed}: {family.__name__[1:]}, batch {size}, {'Adam' if adam else 'SGD'}"
    return Drawn(name, model, loss, batch(), optimizer)


def _cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def squares(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean squared error."""
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def dense(drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """The Hessian in double precision, scaled as the optimizer scales, and the scaled gradient."""
    model = copy.deepcopy(drawn.model).double()
    x, y = drawn.batch
    batch = x.double(), y.double() if y.is_floating_point() else y
    parameters = list(model.parameters())
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        gradients = torch.autograd.grad(drawn.loss(model, batch), parameters, create_graph=True)
        flat = torch.cat([g.reshape(-1) for g in gradients])
        rows = [
            torch.cat(
                [
                    h.reshape(-1)
                    for h in torch.autograd.grad(
                        entry, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
                    )
                ]
            )
            for entry in flat
        ]
    matrix, gradient = torch.stack(rows).detach(), flat.detach()
    if rule(drawn.optimizer) is not None:
        real = list(drawn.model.parameters())
        layout = Layout([p.detach().double() for p in real])
        s = scaling(drawn.optimizer, real, gradient, layout)
        matrix, gradient = s[:, None] * matrix * s, s * gradient
    return matrix.numpy(), gradient.numpy()
