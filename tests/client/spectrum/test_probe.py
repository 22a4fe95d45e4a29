"""The probe against dense Hessians in float64, and what it says when there is nothing to measure."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dcao_client.spectrum import MicroBatches, Outcome, Probe, ProbeSettings, Spectrum

EXACT = ProbeSettings(max_matvecs=80, rho_tol=1e-10, gamma_tol=1e-10, gamma_floor=0.0)


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _net(dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype)


def _batch(n: int = 24, dtype: torch.dtype = torch.float64, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=dtype)
    return x, torch.randint(0, 3, (n,), generator=generator)


def dense_hessian(model: nn.Module, loss: Any, batch: Any) -> np.ndarray:
    """The whole Hessian, one row per parameter, by differentiating each gradient entry."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradient = torch.autograd.grad(loss(model, batch), parameters, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradient])
    rows = [
        torch.cat([h.reshape(-1) for h in torch.autograd.grad(entry, parameters, retain_graph=True)]) for entry in flat
    ]
    return torch.stack(rows).detach().numpy()


def test_the_two_top_eigenvalues_match_a_dense_hessian() -> None:
    model, batch = _net(), _batch()
    values = np.linalg.eigvalsh(dense_hessian(model, cross_entropy, batch))[::-1]
    spectrum = Probe(model, cross_entropy, settings=EXACT).measure(batch)
    assert spectrum.status == "ok"
    assert spectrum.rho == pytest.approx(values[0], rel=1e-6)
    assert spectrum.rho - spectrum.gamma == pytest.approx(values[1], rel=1e-6)
    assert spectrum.lambda_min == pytest.approx(values[-1], rel=1e-6)


def test_loss_gradient_and_batch_sharpness_are_those_of_the_batch() -> None:
    model, batch = _net(), _batch()
    hessian = dense_hessian(model, cross_entropy, batch)
    loss = cross_entropy(model, batch)
    g = torch.cat([p.reshape(-1) for p in torch.autograd.grad(loss, list(model.parameters()))]).numpy()
    spectrum = Probe(model, cross_entropy).measure(batch)
    assert spectrum.loss == pytest.approx(loss.item(), rel=1e-12)
    assert spectrum.grad_norm == pytest.approx(np.linalg.norm(g), rel=1e-12)
    assert spectrum.batch_sharpness == pytest.approx(g @ hessian @ g / (g @ g), rel=1e-9)


def test_slope_and_curvature_along_a_direction_are_those_of_the_quadratic_model() -> None:
    model, batch = _net(), _batch()
    direction = [torch.randn_like(p) for p in model.parameters()]
    u = torch.cat([d.reshape(-1) for d in direction]).numpy()
    hessian = dense_hessian(model, cross_entropy, batch)
    g = torch.autograd.grad(cross_entropy(model, batch), list(model.parameters()))
    slope = -torch.cat([p.reshape(-1) for p in g]).numpy() @ u
    measured = Probe(model, cross_entropy).measure(batch, direction=direction).directional
    assert measured is not None
    assert measured.slope == pytest.approx(slope, rel=1e-9)
    assert measured.curvature == pytest.approx(u @ hessian @ u, rel=1e-9)


@pytest.mark.parametrize("graph", ["keep", "rebuild"])
def test_ragged_micro_batches_are_weighted_by_their_examples(graph: str) -> None:
    model, (x, y) = _net(), _batch(24)
    whole = Probe(model, cross_entropy, settings=EXACT).measure((x, y))
    settings = ProbeSettings(max_matvecs=80, rho_tol=1e-10, gamma_tol=1e-10, gamma_floor=0.0, graph=graph)  # type: ignore[arg-type]
    parts = MicroBatches([(x[:5], y[:5]), (x[5:7], y[5:7]), (x[7:], y[7:])])
    split = Probe(model, cross_entropy, settings=settings).measure(parts)
    assert split.examples == whole.examples == 24
    assert split.rho == pytest.approx(whole.rho, rel=1e-9)
    assert split.gamma == pytest.approx(whole.gamma, rel=1e-9)
    assert split.loss == pytest.approx(whole.loss, rel=1e-12)
    assert split.grad_norm == pytest.approx(whole.grad_norm, rel=1e-12)


def test_a_resumed_probe_measures_exactly_the_same_numbers() -> None:
    model = _net(torch.float32)
    first = Probe(model, cross_entropy)
    first.measure(_batch(dtype=torch.float32))
    saved = first.state_dict()
    second = Probe(model, cross_entropy)
    second.load_state_dict(saved)
    later = _batch(dtype=torch.float32, seed=5)
    a, b = first.measure(later), second.measure(later)
    assert (a.rho, a.gamma, a.lambda_min, a.matvecs) == (b.rho, b.gamma, b.lambda_min, b.matvecs)
    assert a.batch_sharpness == b.batch_sharpness


def test_a_state_of_another_model_or_version_is_refused_by_name() -> None:
    probe = Probe(_net(), cross_entropy)
    with pytest.raises(ValueError, match=r"Probe.state_dict\(\) gave in version 1, got version 9"):
        probe.load_state_dict({"version": 9})
    with pytest.raises(ValueError, match=r"expected warm vectors of length 51.*got 3"):
        probe.load_state_dict({"version": 1, "probes": 1, "warm": [torch.ones(3)]})


def test_divergence_is_a_status_and_never_a_nan() -> None:
    model = _net()
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    spectrum = Probe(model, cross_entropy).measure(_batch())
    assert spectrum.status == "diverged"
    assert spectrum.outcome is Outcome.NON_FINITE
    assert spectrum.rho is None
    assert spectrum.loss is None
    assert spectrum.detail is not None


def test_a_single_parameter_has_a_sharpness_but_no_gap() -> None:
    model = nn.Linear(1, 1, bias=False)
    spectrum = Probe(model, lambda m, b: m(b).square().mean()).measure(torch.full((4, 1), 2.0))
    assert spectrum.status == "breakdown"
    assert spectrum.rho == pytest.approx(8.0, rel=1e-3)
    assert spectrum.gamma is None


def test_a_spectrum_refuses_a_number_that_is_not_finite() -> None:
    with pytest.raises(ValueError, match=r"Spectrum\.rho must be finite or None; got nan"):
        Spectrum("ok", rho=float("nan"))


def test_a_loss_that_is_not_a_scalar_is_named() -> None:
    probe = Probe(_net(), lambda m, b: m(b[0]))
    found = probe.measure(_batch())
    assert found.status == "unavailable"
    assert "TypeError: expected loss(model, batch) to return a scalar" in (found.detail or "")
    assert "shape (24, 3)" in (found.detail or "")


def test_a_model_with_nothing_to_train_is_named() -> None:
    model = _net().requires_grad_(False)
    found = Probe(model, cross_entropy).measure(_batch())
    assert found.status == "unavailable"
    assert "at least one parameter that requires a gradient" in (found.detail or "")


def test_the_fingerprint_changes_with_mode_and_size_and_not_with_the_numbers() -> None:
    model = nn.Sequential(_net(), nn.Dropout(0.1).double())
    probe = Probe(model, cross_entropy)
    base = probe.measure(_batch()).fingerprint
    assert probe.measure(_batch(seed=9)).fingerprint == base
    assert probe.measure(_batch(12)).fingerprint != base
    model.eval()
    assert probe.measure(_batch()).fingerprint != base


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_matvecs", 1), ("rho_tol", 0.0), ("gamma_tol", 1.0), ("max_basis", 3), ("matvec", "magic"), ("start", "x")],
)
def test_settings_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"ProbeSettings\.{field} must be"):
        ProbeSettings(**{field: value})  # type: ignore[arg-type]


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x.unsqueeze(1).expand(-1, 3, -1))[0][:, -1]


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x)))))


@pytest.mark.parametrize(
    "model",
    [
        _Recurrent().double(),
        _Tied().double(),
        nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).double(),
    ],
    ids=["lstm", "tied", "batch_norm_in_train_mode"],
)
def test_borrowed_layers_have_the_curvature_of_the_real_ones(model: nn.Module) -> None:
    batch = _batch()
    values = np.linalg.eigvalsh(dense_hessian(copy.deepcopy(model), cross_entropy, batch))[::-1]
    spectrum = Probe(model, cross_entropy, settings=EXACT).measure(batch)
    assert spectrum.rho == pytest.approx(values[0], rel=1e-6)
    assert spectrum.rho - spectrum.gamma == pytest.approx(values[1], rel=1e-6)


def test_weight_norm_has_the_curvature_of_differenced_gradients() -> None:
    """Not of torch's fused operation, whose second derivative is unsymmetric and wrong by tens of percent."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)).double()
    batch, parameters, step = _batch(), list(model.parameters()), 1e-4

    def gradient() -> Tensor:
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(cross_entropy(model, batch), parameters)])

    rows = []
    for entry in [p.data.view(-1)[i : i + 1] for p in parameters for i in range(p.numel())]:
        original = entry.clone()
        entry.copy_(original + step)
        above = gradient()
        entry.copy_(original - step)
        rows.append((above - gradient()) / (2 * step))
        entry.copy_(original)
    values = torch.linalg.eigvalsh(torch.stack(rows)).flip(0)
    spectrum = Probe(model, cross_entropy, settings=EXACT).measure(batch)
    assert spectrum.rho == pytest.approx(float(values[0]), rel=1e-6)
    assert spectrum.rho - spectrum.gamma == pytest.approx(float(values[1]), rel=1e-6)
