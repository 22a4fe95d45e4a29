"""Default probes of random small networks against dense Hessians in double precision."""

import numpy as np
import pytest

from dcao_client.spectrum import Probe
from tests.client.spectrum.random_networks import dense, draw


def _missed(seed: int) -> bool:
    """Whether γ is off by more than 5 % and its bound; ρ must be right."""
    drawn = draw(seed)
    values = np.linalg.eigvalsh(dense(drawn)[0])[::-1]
    found = Probe(drawn.model, drawn.loss, optimizer=drawn.optimizer).measure(drawn.batch)
    assert found.status == "ok", (drawn.name, found.detail)
    assert found.rho == pytest.approx(values[0], rel=0.01), drawn.name
    gamma = values[0] - values[1]
    return abs(found.gamma - gamma) > max(0.05 * gamma, found.gamma_bound)


def test_forty_networks() -> None:
    assert not any(_missed(seed) for seed in range(40))


@pytest.mark.slow
def test_a_thousand_networks() -> None:
    """γ is missed where the gradient lacks the second eigenvector: 14 times, which is a limit and not a wish."""
    assert sum(_missed(seed) for seed in range(1000)) <= 14
