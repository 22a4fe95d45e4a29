"""Generators of the model's and the loss's own are as they were after a probe, and frozen in it."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dcao_client.spectrum import Probe, ProbeSettings
from dcao_client.spectrum.torch.generators import own_generators


class Noisy(nn.Module):
    """Draws from generators that it holds in every kind of place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.torch = torch.Generator().manual_seed(1)
        self.held = {"numpy": [np.random.default_rng(2)], "legacy": (np.random.RandomState(3),)}
        self.python = random.Random(4)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=self.torch) + float(self.held["numpy"][0].normal())
        return self.layer(x + noise * (1 + self.held["legacy"][0].rand()) * self.python.random())


def _states(model: Noisy) -> tuple[Any, ...]:
    numpy, legacy = self_held = model.held["numpy"][0], model.held["legacy"][0]
    assert len(self_held) == 2
    return (
        model.torch.get_state().tolist(),
        str(numpy.bit_generator.state),
        str(legacy.get_state()),
        model.python.getstate(),
    )


def _batch() -> tuple[Tensor, Tensor]:
    return torch.linspace(-1, 1, 64).view(16, 4), torch.arange(16) % 3


@pytest.mark.parametrize("ask", ["measure", "sharpness"])
def test_the_models_own_generators_are_left_where_they_were(ask: str, loss: Any) -> None:
    model = Noisy()
    before = _states(model)
    probe = Probe(model, loss)
    one = getattr(probe, ask)(_batch())
    assert _states(model) == before
    loss(model, _batch())  # training draws
    assert one.status == "ok"
    assert Probe(model, loss).measure(_batch()).rho == Probe(model, loss).measure(_batch()).rho


def test_generators_of_a_loss_are_found() -> None:
    own, default = torch.Generator(), random.Random(1)

    class Loss:
        __slots__ = ("kept",)

        def __init__(self) -> None:
            self.kept = np.random.default_rng(0)

        def __call__(self, model: nn.Module, batch: Any) -> Tensor:
            return model(batch[0]).sum()

    callable_loss = Loss()

    def closed(model: nn.Module, batch: Any, picker: random.Random = default) -> Tensor:
        return torch.rand(1, generator=own) * picker.random()

    assert {id(g) for g in own_generators(closed)} == {id(own), id(default)}
    assert own_generators(callable_loss) == [callable_loss.kept]
    assert own_generators(callable_loss.__call__) == [callable_loss.kept]


def test_a_generator_that_cannot_be_found_can_be_named(loss: Any) -> None:
    hidden = [torch.Generator().manual_seed(5)]

    def far(model: nn.Module, batch: Any) -> Tensor:
        draw = eval("draw", {"draw": lambda: torch.rand(1, generator=hidden[0])})
        return loss(model, batch) * (1 + draw())

    state = hidden[0].get_state()
    found = Probe(nn.Linear(4, 3), far, settings=ProbeSettings(generators=(hidden[0],))).measure(_batch())
    assert found.status == "ok"
    assert torch.equal(hidden[0].get_state(), state)


def test_bits_without_a_generator_are_one_too_and_entropy_is_none(loss: Any) -> None:
    bits, entropy = np.random.PCG64(1), random.SystemRandom()

    def noisy(model: nn.Module, batch: Any) -> Tensor:
        noise = float(bits.random_raw() % 1000) / 1000 + 0.0 * entropy.random()
        return loss(model, (batch[0] + noise, batch[1]))  # type: ignore[no-any-return]

    before = str(bits.state)
    probe = Probe(nn.Linear(4, 3), noisy)
    batch = torch.randn(8, 4), torch.randint(0, 3, (8,))
    found = probe.measure(batch)
    assert found.status == "ok"
    assert str(bits.state) == before
    assert probe.measure(batch).rho == pytest.approx(found.rho, rel=1e-3)
