"""P^-½HP^-½ against dense matrices, for each optimizer that has a diagonal second moment."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dcao_client.spectrum import Probe, ProbeSettings

EXACT = ProbeSettings(max_matvecs=80, rho_tol=1e-9, gamma_tol=1e-9, gamma_floor=0.0, matvec="double_backward", raw=True)


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(24, 4, generator=generator, dtype=torch.float64), torch.randint(0, 3, (24,), generator=generator)


def _trained(make: Callable[[Any], torch.optim.Optimizer], loss: Any, steps: int = 5) -> Any:
    model = _net()
    optimizer = make(model)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, _batch()).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def _next_denominator(
    make: Callable[[Any], torch.optim.Optimizer], loss: Any, model: nn.Module, optimizer: torch.optim.Optimizer
) -> np.ndarray:
    """η·m/(w_before − w_after) of the very next step with momentum off: what the optimizer divides by, observed."""
    before = [p.detach().clone() for p in model.parameters()]
    loss(model, _batch()).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    optimizer.step()
    out = []
    for p, w, g in zip(model.parameters(), before, gradients, strict=True):
        out.append((optimizer.param_groups[0]["lr"] * g / (w - p.detach())).reshape(-1))
        p.data.copy_(w)
        p.grad = None
    return torch.cat(out).numpy()


WITHOUT_MOMENTUM: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "Adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.0, 0.99)),
    "AdamW foreach": lambda m: torch.optim.AdamW(
        m.parameters(), lr=1e-3, betas=(0.0, 0.99), weight_decay=0, foreach=True
    ),
    "AdamW fused": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3, betas=(0.0, 0.99), weight_decay=0, fused=True),
    "Adam amsgrad": lambda m: torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.0, 0.99), amsgrad=True),
    "RMSprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3),
    "Adagrad": lambda m: torch.optim.Adagrad(m.parameters(), lr=1e-3),
    "Adamax": lambda m: torch.optim.Adamax(m.parameters(), lr=1e-3, betas=(0.0, 0.99)),
    "Adadelta": lambda m: torch.optim.Adadelta(m.parameters(), lr=1.0),
}


@pytest.mark.parametrize("name", WITHOUT_MOMENTUM)
def test_the_scaling_is_what_the_next_step_divides_by(name: str, loss: Any, hessian: Callable[..., np.ndarray]) -> None:
    """P is taken from the optimizer's own behaviour, so a wrong formula cannot agree with itself."""
    make = WITHOUT_MOMENTUM[name]
    model, optimizer = _trained(make, loss)
    dense = hessian(model, loss, _batch())
    spectrum = Probe(model, loss, optimizer=optimizer, settings=EXACT).measure(_batch())
    p = _next_denominator(make, loss, model, optimizer)
    s = 1 / np.sqrt(p)
    values = np.linalg.eigvalsh(s[:, None] * dense * s[None])[::-1]
    assert spectrum.preconditioned
    assert spectrum.rho == pytest.approx(values[0], rel=1e-5)
    assert spectrum.rho - spectrum.gamma == pytest.approx(values[1], rel=1e-5)
    assert spectrum.raw_rho == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=1e-6)


def test_momentum_enters_with_its_bias_correction(loss: Any, hessian: Callable[..., np.ndarray]) -> None:
    """P = (1 − β₁ᵗ)(√ν̂ + ε) with t the coming step."""
    model, optimizer = _trained(lambda m: torch.optim.Adam(m.parameters(), lr=1e-3), loss)
    dense = hessian(model, loss, _batch())
    gradient = torch.autograd.grad(loss(model, _batch()), list(model.parameters()))
    parts = []
    for p, g in zip(model.parameters(), gradient, strict=True):
        second = 0.999 * optimizer.state[p]["exp_avg_sq"] + 0.001 * g * g
        parts.append(((1 - 0.9**6) * ((second / (1 - 0.999**6)).sqrt() + 1e-8)).reshape(-1))
    s = torch.cat(parts).rsqrt().numpy()
    spectrum = Probe(model, loss, optimizer=optimizer, settings=EXACT).measure(_batch())
    assert spectrum.rho == pytest.approx(np.linalg.eigvalsh(s[:, None] * dense * s[None])[-1], rel=1e-6)


def test_groups_with_another_rate_or_momentum_are_brought_to_the_one_with_the_largest_rate(
    loss: Any, hessian: Callable[..., np.ndarray]
) -> None:
    def make(m: nn.Module) -> torch.optim.Optimizer:
        first, last = m[0].parameters(), m[2].parameters()
        return torch.optim.Adam(
            [{"params": first, "lr": 1e-3, "betas": (0.9, 0.99)}, {"params": last, "lr": 3e-3, "betas": (0.5, 0.9)}]
        )

    model, optimizer = _trained(make, loss)
    plain, _ = _trained(make, loss)
    dense = hessian(model, loss, _batch())
    gradient = torch.autograd.grad(loss(plain, _batch()), list(plain.parameters()))
    parts = []
    for index, (p, g) in enumerate(zip(model.parameters(), gradient, strict=True)):
        group = optimizer.param_groups[index // 2]
        b1, b2 = group["betas"]
        second = b2 * optimizer.state[p]["exp_avg_sq"] + (1 - b2) * g * g
        ratio = (group["lr"] / 3e-3) * ((1.5 / 0.5) / ((1 + b1) / (1 - b1)))
        parts.append((((1 - b1**6) * ((second / (1 - b2**6)).sqrt() + 1e-8)) / ratio).reshape(-1))
    s = torch.cat(parts).rsqrt().numpy()
    spectrum = Probe(model, loss, optimizer=optimizer, settings=EXACT).measure(_batch())
    assert spectrum.rho == pytest.approx(np.linalg.eigvalsh(s[:, None] * dense * s[None])[-1], rel=1e-6)


def test_a_row_that_never_had_a_gradient_does_not_outshine_the_rest(loss: Any) -> None:
    """An embedding row first seen by the probe: without folding its gradient in, P = ε there and ρ is 1e4 too large."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.head = nn.Embedding(5, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.table(x)))

    model = Words().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seen = (torch.tensor([0, 1, 2, 3] * 4), torch.tensor([0, 1, 2, 0] * 4))
    for _ in range(5):
        optimizer.zero_grad()
        loss(model, seen).backward()
        optimizer.step()
    probe = Probe(model, loss, optimizer=optimizer, settings=EXACT)
    usual = probe.measure(seen)
    fresh = probe.measure((torch.tensor([0, 1, 2, 4] * 4), seen[1]))
    assert fresh.rho < 20 * usual.rho


def test_sgd_is_measured_raw_and_the_preconditioner_can_be_switched_off(loss: Any) -> None:
    model, optimizer = _trained(lambda m: torch.optim.SGD(m.parameters(), lr=0.1), loss)
    assert not Probe(model, loss, optimizer=optimizer).preconditioned
    model, adam = _trained(lambda m: torch.optim.Adam(m.parameters()), loss)
    raw = Probe(model, loss, optimizer=adam, settings=ProbeSettings(preconditioned=False)).measure(_batch())
    scaled = Probe(model, loss, optimizer=adam).measure(_batch())
    assert not raw.preconditioned
    assert scaled.preconditioned
    assert raw.fingerprint != scaled.fingerprint
    assert scaled.raw_rho is None


def test_the_optimizer_is_only_read(loss: Any) -> None:
    model, optimizer = _trained(lambda m: torch.optim.AdamW(m.parameters(), fused=True), loss)
    before = {k: {n: v.clone() for n, v in s.items()} for k, s in optimizer.state.items()}
    Probe(model, loss, optimizer=optimizer).measure(_batch())
    for key, kept in before.items():
        for name, value in kept.items():
            assert torch.equal(optimizer.state[key][name], value), name


def test_slopes_and_curvatures_per_group_add_up(loss: Any) -> None:
    """Slopes are linear in the update, so those of the groups sum to the whole one."""
    model = _net()
    groups = [{"params": model[0].parameters(), "name": "body"}, {"params": model[2].parameters(), "name": "head"}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    update = [torch.randn_like(p) for p in model.parameters()]
    s = Probe(model, loss, optimizer=optimizer, settings=EXACT).measure(_batch(), direction=update, groups=True)
    assert [g.name for g in s.groups] == ["body", "head"]
    assert s.directional is not None
    assert sum(g.slope for g in s.groups) == pytest.approx(s.directional.slope, rel=1e-9)


class _OwnAdam(torch.optim.SGD):
    """Says by a method what torch's Adam would divide by at its first step."""

    def preconditioner(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        assert any(parameter is p for group in self.param_groups for p in group["params"])
        return 0.1 * (gradient.abs() + 1e-8)


def test_an_optimizer_may_say_its_own_preconditioner(loss: Any) -> None:
    model = _net()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    usual = Probe(model, loss, optimizer=adam, settings=EXACT).measure(_batch())
    probe = Probe(model, loss, optimizer=_OwnAdam(model.parameters(), lr=1e-3), settings=EXACT)
    own = probe.measure(_batch())
    assert probe.preconditioned
    assert own.rho == pytest.approx(usual.rho, rel=1e-6)
    assert own.fingerprint == usual.fingerprint
    assert probe.sharpness(_batch()).rho == pytest.approx(usual.rho, rel=1e-2)


def test_the_rates_of_groups_are_compared_where_an_optimizer_says_its_own(loss: Any) -> None:
    model = _net()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 3e-3}]
    adam = Probe(model, loss, optimizer=torch.optim.Adam(groups, lr=1e-3), settings=EXACT).measure(_batch())
    own = Probe(model, loss, optimizer=_OwnAdam(groups, lr=1e-3), settings=EXACT).measure(_batch())
    assert own.rho == pytest.approx(adam.rho, rel=1e-6)


@pytest.mark.parametrize("rates", [(1e-4, 1e-3), (1e-3, 1e-4), (0.0, 1e-3)])
def test_a_rate_that_decays_over_layers_does_not_change_what_the_largest_is_compared_with(
    loss: Any, rates: tuple[float, float]
) -> None:
    """Fine-tuning lists its slowest layers first: ρ was referred to their rate, and the largest compared with it."""
    model = _net()
    groups = [{"params": m.parameters(), "lr": lr} for m, lr in zip((model[0], model[2]), rates, strict=True)]
    found = Probe(model, loss, optimizer=torch.optim.AdamW(groups, lr=1e-3), settings=EXACT).measure(_batch())
    turned = Probe(model, loss, optimizer=torch.optim.AdamW(groups[::-1], lr=1e-3), settings=EXACT).measure(_batch())
    uniform = torch.optim.AdamW(model.parameters(), lr=1e-3)
    whole = Probe(model, loss, optimizer=uniform, settings=EXACT).measure(_batch())
    assert found.rho == pytest.approx(turned.rho, rel=1e-6), "the order of the groups says nothing"
    assert found.rho <= whole.rho * (1 + 1e-6), "slower layers do not make the edge nearer"


def test_an_optimizer_with_the_method_may_say_that_it_does_not_precondition(loss: Any) -> None:
    model = _net()
    optimizer = _OwnAdam(model.parameters(), lr=0.1)
    optimizer.preconditioned = False
    probe = Probe(model, loss, optimizer=optimizer, settings=EXACT)
    assert not probe.preconditioned
    raw = Probe(model, loss, settings=EXACT).measure(_batch())
    assert probe.measure(_batch()).rho == pytest.approx(raw.rho)
