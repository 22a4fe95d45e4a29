"""λ₁ alone from three products, against dense Hessians along real trainings."""

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dcao_client.spectrum import Probe, ProbeSettings

DOUBLE = ProbeSettings(matvec="double_backward")


def _net(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 3)).to(dtype)


def _batch(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (64,), generator=generator)
    x = torch.randn(64, 6, generator=generator, dtype=dtype)
    return x + 1.5 * nn.functional.one_hot(y, 6).to(dtype), y


def _step(model: nn.Module, loss: Any, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    optimizer.zero_grad()
    loss(model, batch).backward()
    optimizer.step()


def test_the_first_time_it_goes_from_the_gradient_until_the_bound_is_five_percent(
    loss: Any, hessian: Callable[..., np.ndarray]
) -> None:
    model = _net()
    exact = np.linalg.eigvalsh(hessian(model, loss, _batch(1)))[-1]
    found = Probe(model, loss, settings=DOUBLE).sharpness(_batch(1), matvecs=1)
    assert found.status == "ok"
    assert abs(found.rho - exact) <= found.rho_bound <= 0.05 * exact
    assert 1 < found.matvecs <= 8
    assert found.gamma is found.gamma_bound is found.lambda_min is None
    assert found.examples == 64
    assert found.seconds > 0
    assert found.loss == pytest.approx(float(loss(model, _batch(1)).detach()))


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_three_products_follow_the_top_along_a_training(
    make: Any, loss: Any, hessian: Callable[..., np.ndarray]
) -> None:
    """Another batch each time, twenty-five steps apart; never above λ₁, as Ritz values are not."""
    model = _net()
    optimizer = make(model.parameters(), lr=0.1 if make is torch.optim.SGD else 3e-3)
    probe = Probe(model, loss, optimizer=optimizer, settings=DOUBLE)
    exactly = Probe(model, loss, optimizer=optimizer, settings=ProbeSettings(rho_tol=1e-9, max_matvecs=200))
    errors, held = [], 0
    for index in range(1, 251):
        _step(model, loss, optimizer, _batch(index))
        if index % 25 == 0:
            exact = exactly.measure(_batch(1000 + index)).rho
            found = probe.sharpness(_batch(1000 + index))
            assert found.matvecs == 3 or index == 25 or found.rho_bound > 0.05 * exact
            assert found.rho <= exact * (1 + 1e-6)
            errors.append(1 - found.rho / exact)
            held += exact - found.rho <= found.rho_bound
    assert errors[0] < 0.01
    assert max(errors) < 0.3  # under Adam the first hundred steps of so small a network turn everything
    assert statistics.median(errors) < 0.02
    assert held >= 7


def test_it_goes_on_from_the_vector_of_a_measurement_and_leaves_one_behind(loss: Any) -> None:
    model = _net()
    probe = Probe(model, loss, settings=DOUBLE)
    whole = probe.measure(_batch(1))
    assert probe.sharpness(_batch(1), matvecs=1).rho == pytest.approx(whole.rho, rel=0.02)
    before = probe.top_vector.clone()
    other = probe.sharpness(_batch(2))
    assert not torch.equal(before, probe.top_vector)
    assert probe.track(_batch(2)).rho == pytest.approx(other.rho, rel=1e-2)
    assert other.fingerprint == whole.fingerprint


def test_a_resumed_probe_goes_on_with_exactly_the_same_numbers(loss: Any) -> None:
    model = _net(torch.float32)
    first = Probe(model, loss)
    first.sharpness(_batch(1, torch.float32))
    second = Probe(model, loss)
    second.load_state_dict(first.state_dict())
    a, b = (probe.sharpness(_batch(2, torch.float32)) for probe in (first, second))
    assert (a.rho, a.rho_bound, a.matvecs) == (b.rho, b.rho_bound, b.matvecs)


def test_at_a_stationary_point_it_starts_anywhere() -> None:
    net = nn.Linear(2, 1, bias=False).double()
    nn.init.zeros_(net.weight)
    x = torch.eye(2, dtype=torch.float64) * torch.tensor([2.0, 1.0])
    found = Probe(net, lambda m, b: m(b[0]).square().mean()).sharpness((x,))
    assert found.rho == pytest.approx(4.0, rel=0.05)


def test_a_loss_that_is_not_finite_is_a_status(loss: Any) -> None:
    model = _net()
    x, y = _batch(1)
    found = Probe(model, loss).sharpness((x * float("nan"), y))
    assert (found.status, found.rho) == ("diverged", None)


def test_it_leaves_no_trace(loss: Any) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))
    loss(model, _batch(1, torch.float32)).backward()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    generator = torch.get_rng_state()
    probe = Probe(model, loss)
    for seed in (1, 2):
        probe.sharpness(_batch(seed, torch.float32))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), generator)


def test_no_products_are_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match="at least one product; got matvecs=0"):
        Probe(_net(), loss).sharpness(_batch(1), matvecs=0)
