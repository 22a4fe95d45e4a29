"""Default probes of random small networks against dense Hessians in double precision."""

import numpy as np
import pytest
import torch
from torch import nn

from dcao_client.spectrum import Probe
from tests.client.spectrum.random_networks import Drawn, dense, draw, squares


def _missed(seed: int) -> bool:
    """Whether γ is off by more than 5 % and its bound; ρ must be right."""
    drawn = draw(seed)
    values = np.linalg.eigvalsh(dense(drawn)[0])[::-1]
    found = Probe(drawn.model, drawn.loss, optimizer=drawn.optimizer).measure(drawn.batch)
    assert found.status == "ok", (drawn.name, found.detail)
    assert found.rho == pytest.approx(values[0], rel=0.01), drawn.name
    gamma = values[0] - values[1]
    return abs(found.gamma - gamma) > max(0.05 * gamma, found.gamma_bound)


def test_forty_networks_and_the_four_whose_gradient_lacks_the_second_eigenvector_most() -> None:
    missed_once = (172, 292, 506, 785)
    assert not [seed for seed in (*range(40), *missed_once) if _missed(seed)]


def test_a_second_eigenvector_that_the_gradient_hardly_holds() -> None:
    """γ read 1.427 with a bound of 0.0055."""
    torch.manual_seed(12)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    batch = torch.randn(8, 3), torch.randn(8, 1)
    values = np.linalg.eigvalsh(dense(Drawn("named", model, squares, batch, torch.optim.SGD(model.parameters())))[0])
    found = Probe(model, squares).measure(batch)
    gamma = values[-1] - values[-2]
    assert found.gamma is not None
    assert found.gamma_bound is not None
    assert abs(found.gamma - gamma) <= max(0.05 * gamma, found.gamma_bound), (gamma, found)


@pytest.mark.slow
def test_a_thousand_networks() -> None:
    """ρ within 1 %, γ within 5 % or inside its bound, every one of them."""
    assert not [seed for seed in range(1000) if _missed(seed)]
