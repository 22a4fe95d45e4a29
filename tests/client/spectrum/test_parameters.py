"""Which numbers the curvature is of: what the optimizer moves, complex ones, sparse gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dcao_client.spectrum import Probe, ProbeSettings
from dcao_client.spectrum.torch.shares import shares

EXACT = ProbeSettings(max_matvecs=120, rho_tol=1e-9, gamma_tol=1e-9, gamma_floor=0.0, strict=True)
STRICT = ProbeSettings(strict=True)


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(24, 4, generator=generator, dtype=torch.float64), torch.randint(0, 3, (24,), generator=generator)


def _of(model: nn.Module, parameters: list[nn.Parameter], loss: Any, hessian: Callable[..., np.ndarray]) -> np.ndarray:
    """Eigenvalues, descending, of the dense Hessian of some parameters."""
    wanted = {id(p) for p in parameters}
    for p in model.parameters():
        p.requires_grad_(id(p) in wanted)
    values = np.linalg.eigvalsh(hessian(model, loss, _batch()))[::-1]
    for p in model.parameters():
        p.requires_grad_(True)
    return values


def test_curvature_is_of_what_the_optimizer_moves_also_after_a_group_was_added(
    loss: Any, hessian: Callable[..., np.ndarray]
) -> None:
    model = _net()
    head, every = list(model[2].parameters()), list(model.parameters())
    optimizer = torch.optim.SGD(head, lr=0.1)
    probe = Probe(model, loss, optimizer=optimizer, settings=EXACT)
    some = probe.measure(_batch())
    assert some.rho == pytest.approx(_of(model, head, loss, hessian)[0], rel=1e-6)
    assert all(p.grad is None for p in every)
    assert set(shares(probe.top_vector, model, optimizer)) == {"2.weight", "2.bias"}
    optimizer.add_param_group({"params": model[0].parameters()})
    assert probe.track(_batch()).status == "unavailable"
    quick = probe.sharpness(_batch())
    whole = probe.measure(_batch())
    values = _of(model, every, loss, hessian)
    assert whole.rho == pytest.approx(values[0], rel=1e-6)
    assert whole.gamma == pytest.approx(values[0] - values[1], rel=1e-6)
    assert quick.rho == pytest.approx(values[0], rel=0.05)
    assert some.fingerprint != whole.fingerprint == Probe(model, loss, settings=EXACT).measure(_batch()).fingerprint


def test_a_direction_may_name_every_trainable_parameter(loss: Any) -> None:
    model = _net()
    head = list(model[2].parameters())
    probe = Probe(model, loss, optimizer=torch.optim.SGD(head, lr=0.1), settings=EXACT)
    update = [torch.ones_like(p) for p in model.parameters()]
    one = probe.measure(_batch(), direction=update).directional
    assert one == probe.measure(_batch(), direction=update[2:]).directional


def test_an_optimizer_of_copies_is_measured_whole(loss: Any) -> None:
    model = _net()
    copies = torch.optim.SGD([p.detach().clone() for p in model.parameters()], lr=0.1)
    rho = Probe(model, loss, settings=EXACT).measure(_batch()).rho
    assert Probe(model, loss, optimizer=copies, settings=EXACT).measure(_batch()).rho == rho


def test_a_state_from_before_a_group_was_added_is_read(loss: Any) -> None:
    model = _net()
    probe = Probe(model, loss, optimizer=torch.optim.SGD(model[2].parameters(), lr=0.1))
    probe.measure(_batch())
    later = Probe(model, loss, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), settings=STRICT)
    later.load_state_dict(probe.state_dict())
    assert later.sharpness(_batch()).status == "ok"


class Complex(nn.Module):
    """A complex layer, the modulus, a real head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Parameter(torch.randn(4, 5, dtype=torch.complex128))
        self.head = nn.Linear(5, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        z = x.to(self.inner.dtype) @ self.inner
        return self.head(torch.view_as_real(z).square().sum(-1))


def _complex_hessian(model: Complex, loss: Any, batch: Any) -> np.ndarray:
    """Dense over real and imaginary parts, by differentiating the gradient of a real parametrisation."""
    shapes = [torch.view_as_real(model.inner.detach()), model.head.weight.detach(), model.head.bias.detach()]
    flat = torch.cat([t.reshape(-1) for t in shapes])

    def value(w: Tensor) -> Tensor:
        inner, weight, bias = torch.split(w, [t.numel() for t in shapes])
        new = {
            "inner": torch.view_as_complex(inner.view(4, 5, 2)),
            "head.weight": weight.view(3, 5),
            "head.bias": bias,
        }
        return loss(lambda x: torch.func.functional_call(model, new, (x,)), batch)

    return torch.autograd.functional.hessian(value, flat).numpy()


@pytest.mark.parametrize("matvec", ["double_backward", "finite_difference", "auto"])
def test_complex_parameters_are_their_real_and_imaginary_parts(matvec: Any, loss: Any) -> None:
    model = Complex()
    values = np.linalg.eigvalsh(_complex_hessian(model, loss, _batch()))[::-1]
    found = Probe(model, loss, settings=ProbeSettings(matvec=matvec, strict=True)).measure(_batch())
    assert found.rho == pytest.approx(values[0], rel=0.01)
    assert found.gamma == pytest.approx(values[0] - values[1], rel=0.05)
    model.inner, model.head = nn.Parameter(model.inner.detach().to(torch.complex64)), model.head.float()
    x, y = _batch()
    assert Probe(model, loss, settings=STRICT).measure((x.float(), y)).rho == pytest.approx(values[0], rel=0.01)


def test_complex_parameters_under_adam(loss: Any) -> None:
    """torch's Adam treats real and imaginary parts as two numbers."""
    model = Complex()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        loss(model, _batch()).backward()
        optimizer.step()
    optimizer.zero_grad()
    gradients = torch.autograd.grad(loss(model, _batch()), list(model.parameters()))
    real = lambda t: (torch.view_as_real(t) if t.is_complex() else t).reshape(-1)  # noqa: E731
    second = torch.cat([real(optimizer.state[p]["exp_avg_sq"]) for p in model.parameters()])
    g = torch.cat([real(t) for t in gradients])
    second = 0.999 * second + 0.001 * g * g
    s = ((1 - 0.9**4) * ((second / (1 - 0.999**4)).sqrt() + 1e-8)).rsqrt().numpy()
    values = np.linalg.eigvalsh(s[:, None] * _complex_hessian(model, loss, _batch()) * s)[::-1]
    found = Probe(model, loss, optimizer=optimizer, settings=EXACT).measure(_batch())
    assert found.rho == pytest.approx(values[0], rel=1e-5)


class Words(nn.Module):
    def __init__(self, *, sparse: bool, functional: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(7, 4, sparse=sparse), nn.Linear(4, 3)
        self.functional = functional

    def forward(self, x: Tensor) -> Tensor:
        if self.functional:
            return self.head(torch.tanh(nn.functional.embedding(x, self.table.weight, sparse=True)))
        return self.head(torch.tanh(self.table(x)))


@pytest.mark.parametrize("functional", [False, True])
def test_sparse_gradients_of_embeddings(functional: bool, loss: Any) -> None:
    batch = torch.tensor([0, 1, 2, 3, 5] * 4), torch.tensor([0, 1, 2, 0, 1] * 4)
    dense = Probe(Words(sparse=False), loss, settings=STRICT).measure(batch)
    model = Words(sparse=True, functional=functional)
    found = Probe(model, loss, settings=STRICT).measure(batch)
    assert found.status == "ok"
    assert found.rho == pytest.approx(dense.rho, rel=1e-2)
    assert found.gamma == pytest.approx(dense.gamma, rel=5e-2, abs=found.gamma_bound)
    assert model.table.sparse
    loss(model, batch).backward()
    assert model.table.weight.grad.is_sparse


def test_sparse_adam_preconditions(loss: Any) -> None:
    batch = torch.tensor([0, 1, 2, 3, 4, 5, 6] * 3), torch.tensor([0, 1, 2, 0, 1, 2, 0] * 3)
    found = {}
    for name, make in {"sparse": torch.optim.SparseAdam, "dense": torch.optim.Adam}.items():
        model = Words(sparse=name == "sparse")
        model.head.requires_grad_(False)
        optimizer = make([model.table.weight], lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
        probe = Probe(model, loss, optimizer=optimizer, settings=ProbeSettings(strict=True))
        assert probe.preconditioned
        found[name] = probe.measure(batch).rho
    assert found["sparse"] == pytest.approx(found["dense"], rel=0.02)


def test_a_group_of_the_same_size_is_another_one(loss: Any, hessian: Callable[..., np.ndarray]) -> None:
    """Vectors of other parameters are no start, and numbers of two subsets have two names."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False)).double()
    optimizer = torch.optim.SGD([model[0].weight], lr=0.1)
    probe = Probe(model, loss, optimizer=optimizer, settings=EXACT)
    first = probe.measure(_batch())
    optimizer.param_groups[0]["params"] = [model[2].weight]
    assert probe.track(_batch()).status == "unavailable"
    probe.measure(_batch())
    optimizer.param_groups[0]["params"] = [model[0].weight]
    quick = probe.sharpness(_batch())
    assert quick.rho == pytest.approx(_of(model, [model[0].weight], loss, hessian)[0], rel=0.05)
    other = Probe(model, loss, optimizer=torch.optim.SGD([model[2].weight], lr=0.1), settings=EXACT).measure(_batch())
    assert first.fingerprint != other.fingerprint


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("first", [True, False])
def test_a_group_without_a_rate_does_not_move(kind: Any, first: bool, loss: Any) -> None:
    model = _net()
    still = {"params": list(model[0].parameters()), "lr": 0.0}
    moving = {"params": list(model[2].parameters()), "lr": 0.1}
    groups = [still, moving] if first else [moving, still]
    found = Probe(model, loss, optimizer=kind(groups), settings=EXACT).measure(_batch())
    alone = Probe(model, loss, optimizer=kind([dict(moving)]), settings=EXACT).measure(_batch())
    assert found.rho == pytest.approx(alone.rho, rel=1e-9)
    for group in groups:
        group["lr"] = 0.0  # a warm-up's first step: all of them are about to move
    whole = Probe(model, loss, optimizer=kind(groups), settings=EXACT).measure(_batch())
    assert whole.rho == pytest.approx(
        Probe(model, loss, optimizer=kind(model.parameters(), lr=0.1), settings=EXACT).measure(_batch()).rho, rel=1e-9
    )
