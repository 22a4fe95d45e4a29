"""Every kind of product against the dense matrix it stands for, and how the kind is chosen."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dcao_client.spectrum import CrossEntropy, Probe, ProbeSettings
from dcao_client.spectrum.torch.critical import critical_sharpness
from dcao_client.spectrum.torch.finite_difference import FiniteDifference
from dcao_client.spectrum.torch.gauss_newton import GaussNewton
from dcao_client.spectrum.torch.isolation import isolated
from dcao_client.spectrum.torch.kinks import FrozenKinks, KinksMovedError
from dcao_client.spectrum.torch.layout import Layout
from dcao_client.spectrum.torch.problem import Alone, Problem
from dcao_client.spectrum.vectors import norm

Batch = tuple[Tensor, Tensor]


def _problem(model: nn.Module, loss: Any, batch: Any, aliases: list[nn.Parameter]) -> Problem:
    return Problem(model, loss, [batch], [1.0], aliases, Layout(aliases), Alone(), 0)


def _double(batch: Batch) -> Batch:
    return batch[0].double(), batch[1]


def test_held_kinks_make_differences_right_where_free_ones_are_not(
    kinked: nn.Module, loss: Any, batch: Batch, hessian: Callable[..., np.ndarray]
) -> None:
    """A long step shows it: with the kinks held the error is the truncation's, without it is several times that."""
    model = kinked.double()
    exact = torch.from_numpy(hessian(model, loss, _double(batch)))
    with isolated(model) as aliases:
        problem = _problem(model, loss, _double(batch), aliases)
        v = torch.randn(len(exact), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        v /= norm(v)
        held = FiniteDifference(problem, step=1e-2, central=True).product(v)
        free = FiniteDifference(problem, step=1e-2, central=True, held=False).product(v)
        tiny = FiniteDifference(problem, step=1e-6, central=True).product(v)
    scale = norm(exact @ v)
    assert norm(tiny - exact @ v) / scale < 1e-6
    assert norm(held - exact @ v) / scale < 1e-2
    assert norm(free - exact @ v) / scale > 5 * norm(held - exact @ v) / scale


def test_the_truncation_of_one_product_has_the_sign_opposite_to_that_of_the_next() -> None:
    """L = Σ w³ has the truncation h·3v² in every entry, forwards; backwards its negative."""
    model, step = nn.Linear(4, 1, bias=False).double(), 1e-3

    def cubic(model: nn.Module, batch: Tensor) -> Tensor:
        return model.weight.pow(3).sum() * batch.mean()

    with isolated(model) as aliases:
        operator = FiniteDifference(_problem(model, cubic, torch.ones(1, dtype=torch.float64), aliases), step=step)
        v = torch.full((4,), 0.5, dtype=torch.float64)
        exact, truncation = 6 * aliases[0].detach().flatten() * v, step * 3 * v.square()
        products = [operator.product(v) for _ in range(4)]
    for sign, product in zip((1, -1, 1, -1), products, strict=True):
        torch.testing.assert_close(product - exact, sign * truncation, rtol=1e-6, atol=1e-9)


def test_a_replay_that_calls_more_functions_than_were_recorded_is_noticed() -> None:
    kinks, x = FrozenKinks(), torch.ones(2)
    with kinks.recording():
        torch.relu(x)
    with kinks.replaying(), pytest.raises(KinksMovedError, match="same piecewise functions"):
        torch.relu(torch.relu(x))


@pytest.mark.parametrize(
    "function",
    [
        torch.relu,
        torch.abs,
        lambda x: x.clamp(-0.5, 0.5),
        lambda x: torch.maximum(x, x.flip(0)),
        lambda x: x.amax(0),
        nn.functional.hardswish,
        nn.functional.hardsigmoid,
        nn.functional.relu6,
        lambda x: nn.functional.leaky_relu(x, 0.2),
        lambda x: nn.functional.prelu(x, torch.tensor([0.3])),
        lambda x: nn.functional.max_pool1d(x.view(1, 1, -1), 2, return_indices=True)[0],
    ],
)
def test_held_functions_are_the_functions_at_the_point_itself(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(-4, 4, 32, requires_grad=True)
    kinks = FrozenKinks()
    with kinks.recording():
        recorded = function(x)
    with kinks.replaying():
        replayed = function(x)
    assert len(kinks.tape) >= 1
    torch.testing.assert_close(recorded, function(x))
    torch.testing.assert_close(replayed, recorded)
    (a,) = torch.autograd.grad(function(x).sum(), x)
    (b,) = torch.autograd.grad(replayed.sum(), x)
    torch.testing.assert_close(a, b)


def test_gauss_newton_is_the_dense_one_and_its_closed_form_agrees(kinked: nn.Module, loss: Any, batch: Batch) -> None:
    model, (x, y) = kinked.double(), _double(batch)
    parameters = list(model.parameters())
    logits = model(x)
    rows = [
        torch.cat([g.reshape(-1) for g in torch.autograd.grad(entry, parameters, retain_graph=True)])
        for entry in logits.reshape(-1)
    ]
    jacobian, p = torch.stack(rows), logits.detach().softmax(-1)
    blocks = torch.stack([torch.diag(q) - torch.outer(q, q) for q in p]) / len(p)
    dense = jacobian.T @ torch.block_diag(*blocks) @ jacobian
    v = torch.randn(len(dense), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for which in (loss, CrossEntropy()):
        with isolated(model) as aliases:
            operator = GaussNewton(_problem(model, which, (x, y), aliases))
            torch.testing.assert_close(operator.product(v), dense @ v)
            operator.close()


def test_gauss_newton_needs_outputs_it_can_tell_from_the_loss(batch: Batch) -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": self.layer(x.flatten(1)).square().mean()}

    probe = Probe(Inside(), lambda m, b: m(b[0])["loss"], settings=ProbeSettings(matvec="gauss_newton"))
    found = probe.measure(batch)
    assert found.status == "unavailable"
    assert "returns one tensor; got dict" in (found.detail or "")


def test_automatic_choice_takes_differences_and_agrees_with_double_backward(
    kinked: nn.Module, loss: Any, batch: Batch
) -> None:
    automatic = Probe(kinked, loss)
    chosen = automatic.measure(batch)
    exact = Probe(kinked, loss, settings=ProbeSettings(matvec="double_backward")).measure(batch)
    assert chosen.matvec == "finite_difference"
    assert automatic.choice.error is not None
    assert automatic.choice.error < 0.03
    assert chosen.rho == pytest.approx(exact.rho, rel=1e-2)
    assert abs(chosen.gamma - exact.gamma) <= chosen.gamma_bound + exact.gamma_bound
    assert chosen.fingerprint == exact.fingerprint


def test_double_precision_and_tight_tolerances_get_exact_products(kinked: nn.Module, loss: Any, batch: Batch) -> None:
    tight = Probe(kinked, loss, settings=ProbeSettings(rho_tol=1e-4)).measure(batch)
    assert tight.matvec == "double_backward"
    assert Probe(kinked.double(), loss).measure(_double(batch)).matvec == "double_backward"


class _OnceOnly(torch.autograd.Function):
    """tanh with a first derivative and no second: what a fused kernel is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


class _Fused(nn.Module):
    def __init__(self, *, kink: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        width = 300 if kink else 6  # enough activations that the smallest step moves some across
        self.first, self.last, self.kink = nn.Linear(64, width), nn.Linear(width, 3), kink
        self.middle = nn.Linear(width, width) if kink else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = _OnceOnly.apply(self.first(x.flatten(1)))
        if self.kink:
            # A kink that no table knows, after a layer that makes it matter.
            h = self.middle(h)
            h = torch.where(h > 0, h, torch.zeros_like(h))
        return self.last(h)


def test_a_kernel_without_a_second_derivative_is_measured_by_differences(loss: Any, batch: Batch) -> None:
    model = _Fused()
    twin = copy.deepcopy(model)
    twin.forward = lambda x: twin.last(twin.first(x.flatten(1)).tanh())  # type: ignore[method-assign]
    exact = Probe(twin, loss, settings=ProbeSettings(matvec="double_backward")).measure(batch)
    probe = Probe(model, loss)
    spectrum = probe.measure(batch)
    assert spectrum.matvec == "finite_difference"
    assert "double_backward" in probe.choice.reasons
    assert spectrum.rho == pytest.approx(exact.rho, rel=1e-2)


def test_differences_are_refused_on_kinks_that_cannot_be_held_unless_forced(loss: Any, batch: Batch) -> None:
    settings = ProbeSettings(matvec="finite_difference")
    refused = Probe(_Fused(kink=True), loss, settings=settings).measure(batch)
    assert refused.status == "unavailable"
    assert refused.detail is not None
    assert "kinks that cannot be held" in refused.detail
    forced = Probe(_Fused(kink=True), loss, settings=ProbeSettings(matvec="finite_difference", force=True)).measure(
        batch
    )
    assert forced.status == "ok"


def test_reentrant_checkpointing_is_measured_by_differences(loss: Any, batch: Batch) -> None:
    class Reentrant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.body = nn.Linear(64, 6), nn.Sequential(nn.Linear(6, 6), nn.GELU())
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x.flatten(1))
            h = checkpoint(self.body, h, use_reentrant=True) if self.reentrant else self.body(h)
            return self.head(h)

        reentrant = True

    model = Reentrant()
    spectrum = Probe(model, loss).measure(batch)
    assert spectrum.matvec == "finite_difference"
    assert all(p.grad is None for p in model.parameters())
    model.reentrant = False
    exact = Probe(model, loss, settings=ProbeSettings(matvec="double_backward")).measure(batch)
    assert spectrum.rho == pytest.approx(exact.rho, rel=1e-2)


def test_critical_sharpness_of_a_quadratic_is_the_curvature_along_the_gradient() -> None:
    model = nn.Linear(3, 1, bias=False).double()
    x = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))

    def quadratic(m: nn.Module, b: Tensor) -> Tensor:
        return m(b).square().mean()

    exact = Probe(model, quadratic, settings=ProbeSettings(matvec="double_backward")).measure(x)
    probe = Probe(model, quadratic, settings=ProbeSettings(matvec="critical"))
    first = probe.measure(x)
    assert first.rho == pytest.approx(exact.batch_sharpness, rel=0.1)
    assert first.gamma is None
    again = probe.measure(x)
    assert again.matvecs <= 6
    assert first.fingerprint != exact.fingerprint


def test_a_loss_that_never_rises_has_no_critical_step() -> None:
    assert critical_sharpness(lambda _: False, 1.0).sharpness is None


def test_the_last_vector_is_tracked_with_one_product(kinked: nn.Module, loss: Any, batch: Batch) -> None:
    probe = Probe(kinked, loss)
    assert probe.track(batch).status == "unavailable"
    measured = probe.measure(batch)
    tracked = probe.track(batch)
    assert tracked.matvecs == 1
    assert tracked.rho == pytest.approx(measured.rho, rel=1e-2)
    assert tracked.gamma is None


def test_a_probe_of_part_of_a_batch_measures_its_first_examples(kinked: nn.Module, loss: Any, batch: Batch) -> None:
    part = Probe(kinked, loss, settings=ProbeSettings(probe_batch=8)).measure(batch)
    whole = Probe(kinked, loss).measure((batch[0][:8], batch[1][:8]))
    assert part.examples == 8
    assert part.rho == whole.rho


@pytest.mark.parametrize("start", ["random", "gradient", "warm", "combined"])
def test_every_start_finds_the_same_top(start: Any, kinked: nn.Module, loss: Any, batch: Batch) -> None:
    settings = ProbeSettings(start=start, matvec="double_backward", rho_tol=1e-5, gamma_tol=1e-3, gamma_floor=0.0)
    probe = Probe(kinked, loss, settings=settings)
    first, second = probe.measure(batch), probe.measure(batch)
    reference = Probe(kinked, loss, settings=ProbeSettings(matvec="double_backward", max_matvecs=40)).measure(batch)
    for found in (first, second):
        assert found.rho == pytest.approx(reference.rho, rel=1e-3)
        assert found.batch_sharpness == pytest.approx(reference.batch_sharpness, rel=1e-4)


@pytest.mark.parametrize("basis", ["bf16", "cpu", "cpu_bf16"])
def test_a_small_or_distant_basis_finds_the_same_top(basis: Any, kinked: nn.Module, loss: Any, batch: Batch) -> None:
    small = ProbeSettings(basis=basis, max_basis=6, max_matvecs=30, matvec="double_backward")
    found = Probe(kinked, loss, settings=small).measure(batch)
    full = Probe(kinked, loss, settings=ProbeSettings(matvec="double_backward")).measure(batch)
    assert found.rho == pytest.approx(full.rho, rel=1e-2)
    assert abs(found.gamma - full.gamma) <= found.gamma_bound + full.gamma_bound
    size = sum(p.numel() for p in kinked.parameters())
    assert found.memory == 6 * size * (2 if "bf16" in basis else 4)


def test_differences_that_became_too_rough_are_replaced_by_exact_products(
    kinked: nn.Module, loss: Any, batch: Batch
) -> None:
    """The step that was right at first is not for ever; the asymmetry of T notices."""
    probe = Probe(kinked, loss)
    assert probe.measure(batch).matvec == "finite_difference"
    probe.choice.step = 3.0
    spectrum = probe.measure(batch)
    exact = Probe(kinked, loss, settings=ProbeSettings(matvec="double_backward", max_matvecs=40)).measure(batch)
    assert spectrum.matvec == "double_backward"
    assert spectrum.rho == pytest.approx(exact.rho, rel=1e-2)
    assert probe.measure(batch).matvec == "finite_difference"  # tried afresh


def test_another_path_through_the_model_than_the_recorded_one_is_measured_exactly(loss: Any, batch: Batch) -> None:
    """A forward that calls one more piecewise function in every later evaluation."""

    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(64, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            calls["n"] += 1
            h = torch.relu(self.first(x.flatten(1)))
            return self.last(torch.relu(h) if calls["n"] % 5 == 0 else h)

    calls = {"n": 0}
    model = Restless()
    spectrum = Probe(model, loss).measure(batch)
    assert spectrum.status == "ok"
    assert spectrum.matvec == "double_backward"
