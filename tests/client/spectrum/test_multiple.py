"""Eigenvalues that the gradient cannot show: exact and near copies, and what is of another symmetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dcao_client.spectrum import Probe, ProbeSettings
from dcao_client.spectrum import measure as measuring
from dcao_client.spectrum.result import Spectrum


class Quadratic(nn.Module):
    """½ Σ dᵢwᵢ², at a point whose gradient is random."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values
        self.w = nn.Parameter(torch.randn(len(values), dtype=values.dtype) / values)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (self.values * self.w * self.w).sum() + 0 * x.sum()


def _loss(model: nn.Module, batch: Any) -> Tensor:
    out: Tensor = model(batch[0])
    return out


def _squares(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def _holds(found: Spectrum, first: float, second: float) -> bool:
    assert found.status == "ok", found.detail
    assert found.rho is not None
    assert found.gamma is not None
    assert found.gamma_bound is not None
    off = abs(found.gamma - (first - second))
    return abs(found.rho - first) <= 0.01 * first and off <= max(found.gamma_bound, 0.05 * (first - second))


TOPS = [[5.0, 5, 1], [5.0, 5, 5, 2], [5.0, 3, 3, 1], *([5.0, 5 - 5 * 10.0**-k, 1] for k in range(2, 7))]


@pytest.mark.parametrize("top", TOPS)
@pytest.mark.parametrize("rest", [50, 2_000, 30_000])
def test_copies_and_near_copies_are_inside_the_bound(top: list[float], rest: int) -> None:
    torch.manual_seed(rest)
    values = torch.cat([torch.tensor(top), 0.5 * torch.rand(rest)])
    probe = Probe(Quadratic(values), _loss)
    for _ in range(3):  # the second one looks again because the first one saw something
        found = probe.measure((torch.ones(2),))
        first, second = np.sort(values.numpy())[::-1][:2]
        assert _holds(found, float(first), float(second)), found
        assert found.gamma is not None
        assert found.gamma_bound is not None
        if second > 4:
            assert found.gamma + found.gamma_bound < 1.0  # of 4, which is what the gradient shows


def test_without_it_the_copy_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcao_client.spectrum.solve.with_multiples", lambda matvec, solve, *_, **__: solve)
    torch.manual_seed(0)
    values = torch.cat([torch.tensor([5.0, 5, 1]), 0.5 * torch.rand(50)])
    assert not _holds(Probe(Quadratic(values), _loss).measure((torch.ones(2),)), 5.0, 5.0)


class Twins(nn.Module):
    """Two equal branches, added: the gradient is symmetric under their exchange, the Hessian's vectors are either."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        self.other = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        self.other.load_state_dict(self.one.state_dict())
        if tied:
            self.other[0] = self.one[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


class Products(nn.Module):
    """Two equal factors of each other: the sharpest direction may be the antisymmetric one, which no gradient holds."""

    def __init__(self) -> None:
        super().__init__()
        start = torch.randn(5)
        self.a, self.b = nn.Parameter(start.clone()), nn.Parameter(start.clone())

    def forward(self, x: Tensor) -> Tensor:
        return (x @ (self.a * self.b))[:, None]


def _zero_head() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    return model


def _equal_neurons() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(float(p.flatten()[0]))
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "twins": Twins,
    "tied": lambda: Twins(tied=True),
    "products": Products,
    "a head of zeros": _zero_head,
    "equal neurons": _equal_neurons,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(4))
def test_symmetric_networks_against_dense(name: str, seed: int, hessian: Callable[..., np.ndarray]) -> None:
    torch.manual_seed(seed)
    model = MODELS[name]().double()
    x = torch.randn(16, 5 if name == "products" else 4, dtype=torch.float64)
    batch = x, torch.randn(16, 3 if name == "a head of zeros" else 1, dtype=torch.float64)
    values = np.linalg.eigvalsh(hessian(model, _squares, batch))[::-1]
    found = Probe(model, _squares).measure(batch)
    assert _holds(found, float(values[0]), float(values[1])), (values[:3], found)


def test_a_look_is_the_first_measurement_and_then_every_eighth() -> None:
    torch.manual_seed(0)
    values = torch.cat([torch.tensor([5.0, 3, 1]), 0.5 * torch.rand(500)])
    probe = Probe(Quadratic(values), _loss, settings=ProbeSettings(matvec="double_backward"))
    spent = [probe.measure((torch.ones(2),)).matvecs for _ in range(measuring.LOOK_EVERY + 1)]
    assert spent[0] == spent[-1] > spent[1]
    assert len(set(spent[1:-1])) == 1
    assert spent[0] - spent[1] < measuring.LOOK_EVERY  # less than one product on average


def test_a_resumed_run_goes_on_looking() -> None:
    torch.manual_seed(0)
    values = torch.cat([torch.tensor([5.0, 5, 1]), 0.5 * torch.rand(50)])
    model = Quadratic(values)
    probe = Probe(model, _loss)
    probe.measure((torch.ones(2),))
    again = Probe(model, _loss)
    again.load_state_dict(probe.state_dict())
    ours, theirs = probe.measure((torch.ones(2),)), again.measure((torch.ones(2),))
    assert (ours.gamma, ours.matvecs) == (theirs.gamma, theirs.matvecs)
    assert _holds(ours, 5.0, 5.0)
