"""Linear layers by oneDNN: the same function, the same gradients, and only where it is meant."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from dcao_client.spectrum import Probe, ProbeSettings
from dcao_client.spectrum.torch import onednn
from dcao_client.spectrum.torch.choose import Choice
from dcao_client.spectrum.torch.onednn import OneDNN

ROWS, INPUTS, OUTPUTS = 300, 96, 64


@pytest.fixture(autouse=True)
def every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor where it is faster, and with layers of any size."""
    monkeypatch.setattr(onednn, "LEAST", 0)
    monkeypatch.setattr("dcao_client.spectrum.torch.choose.faster", lambda: True)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def used(call: Callable[[], Any]) -> bool:
    """Whether oneDNN's product was called."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        call()
    return any("_linear_pointwise" in event.key for event in recorded.key_averages())


def _linear(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return nn.functional.linear(x, w, b)


def _unbiased(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return nn.functional.linear(x, w) + b


def _matmul(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(x, w.t()) + b


def _operator(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return x @ w.mT + b


def _addmm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.addmm(b, x.flatten(0, -2), w.t()).unflatten(0, x.shape[:-1])


@pytest.mark.parametrize("call", [_linear, _unbiased, _matmul, _operator, _addmm])
@pytest.mark.parametrize("lead", [(ROWS,), (10, 30)])
def test_values_and_gradients_are_those_of_float64(call: Callable[..., Tensor], lead: tuple[int, ...]) -> None:
    x, w, b = (t.requires_grad_() for t in (drawn(*lead, INPUTS), drawn(OUTPUTS, INPUTS), drawn(OUTPUTS)))
    wide = [t.detach().double().requires_grad_() for t in (x, w, b)]
    weigh = drawn(*lead, OUTPUTS)
    with OneDNN():
        y = call(x, w, b)
        found = torch.autograd.grad((y * weigh).sum(), (x, w, b))
    expected = call(*wide)
    exact = torch.autograd.grad((expected * weigh.double()).sum(), wide)
    assert y.shape == expected.shape
    for one, other in zip((y, *found), (expected, *exact), strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-4)
    with OneDNN():
        assert used(lambda: call(x, w, b))


@pytest.mark.parametrize(
    "strided",
    [
        lambda x: x[:, ::2],
        lambda x: x[:, : x.shape[1] // 2],
        lambda x: x.t()[: x.shape[1] // 2].t(),
        lambda x: x[:1, : x.shape[1] // 2].expand(len(x), -1),
    ],
    ids=["every other column", "half of the columns", "transposed", "expanded"],
)
def test_matrices_with_holes_take_a_copy(strided: Callable[[Tensor], Tensor]) -> None:
    """oneDNN multiplies them right, in a thousand times the time."""
    x, w = strided(drawn(ROWS, 2 * INPUTS)), strided(drawn(OUTPUTS, 2 * INPUTS)).requires_grad_()
    with OneDNN():
        y = nn.functional.linear(x, w)
        (found,) = torch.autograd.grad(y.square().sum(), w)
    expected = x.double() @ w.double().t()
    torch.testing.assert_close(y, expected.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, (2 * expected.t() @ x.double()).float(), rtol=1e-3, atol=1e-2)


def test_a_gradient_in_the_loss_has_its_derivative() -> None:
    """A penalty on the gradient differentiates twice, which oneDNN's product alone cannot."""
    x, w = drawn(ROWS, INPUTS).requires_grad_(), drawn(OUTPUTS, INPUTS).requires_grad_()

    def penalty(x: Tensor, w: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(torch.tanh(nn.functional.linear(x, w)).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), w)[0]

    with OneDNN():
        found = penalty(x, w)
    torch.testing.assert_close(found, penalty(x, w), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: drawn(ROWS, INPUTS).double() @ drawn(INPUTS, OUTPUTS).double(),
        lambda: drawn(ROWS, INPUTS).bfloat16() @ drawn(INPUTS, OUTPUTS).bfloat16(),
        lambda: drawn(4, ROWS, INPUTS) @ drawn(4, INPUTS, OUTPUTS),
        lambda: drawn(INPUTS) @ drawn(INPUTS, OUTPUTS),
        lambda: torch.addmm(drawn(ROWS, OUTPUTS), drawn(ROWS, INPUTS), drawn(INPUTS, OUTPUTS)),
        lambda: torch.addmm(drawn(OUTPUTS), drawn(ROWS, INPUTS), drawn(INPUTS, OUTPUTS), alpha=0.5),
        lambda: torch.mm(drawn(ROWS, INPUTS), drawn(INPUTS, OUTPUTS), out=torch.empty(ROWS, OUTPUTS)),
    ],
    ids=["float64", "bfloat16", "batched", "vector", "a matrix added", "scaled", "into a tensor"],
)
def test_everything_else_is_torchs_own(call: Callable[[], Tensor]) -> None:
    with OneDNN():
        found = call()
        assert not used(call)
    assert torch.equal(found, call())


def test_autocast_is_left_alone() -> None:
    layer, x = nn.Linear(INPUTS, OUTPUTS), drawn(ROWS, INPUTS)
    with OneDNN(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype is torch.bfloat16


def test_wrong_shapes_raise_what_torch_raises() -> None:
    with OneDNN(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        nn.functional.linear(drawn(ROWS, INPUTS), drawn(OUTPUTS, INPUTS + 1))


def test_small_products_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "LEAST", ROWS * INPUTS * OUTPUTS)
    layer, x = nn.Linear(INPUTS, OUTPUTS), drawn(ROWS, INPUTS)
    with OneDNN():
        assert not used(lambda: layer(x))
        assert used(lambda: layer(torch.cat([x, x[:1]])))


Batch = tuple[Tensor, Tensor]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def mapped(model: nn.Module, batch: Batch) -> Tensor:
    """The mean of the examples' losses, mapped over: in it a custom derivative is refused."""

    def one(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(x[None]), y[None])

    return torch.func.vmap(one)(*batch).mean()


@pytest.mark.parametrize(("loss", "kept"), [(cross_entropy, True), (mapped, False)])
def test_the_spectrum_is_the_same_and_the_choice_is_kept(loss: Callable[..., Tensor], kept: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(INPUTS, OUTPUTS), nn.Tanh(), nn.Linear(OUTPUTS, 5))
    batch = drawn(ROWS, INPUTS) + 1.0, torch.randint(0, 5, (ROWS,))
    tight = ProbeSettings(matvec="double_backward", max_matvecs=60, rho_tol=1e-6, gamma_tol=1e-4)
    exact = Probe(model, cross_entropy, settings=tight).measure(batch)
    probe = Probe(model, loss)
    found = probe.measure(batch)
    assert probe.choice.kind == "finite_difference"
    assert probe.choice.onednn is kept
    assert found.rho == pytest.approx(exact.rho, rel=0.01)
    assert found.gamma == pytest.approx(exact.gamma, rel=0.05)
    again = Probe(model, loss)
    again.load_state_dict(probe.state_dict())
    assert again.choice == probe.choice
    assert used(functools.partial(again.measure, batch)) is kept


def test_a_failing_loss_forbids_nothing() -> None:
    model, batch = nn.Linear(INPUTS, 5), (drawn(ROWS, INPUTS), torch.randint(0, 5, (ROWS,)))
    probe = Probe(model, cross_entropy)
    probe.measure(batch)
    found = probe.measure((drawn(ROWS, INPUTS + 1), batch[1]))
    assert "shapes cannot be multiplied" in (found.detail or "")
    assert probe.choice.onednn
    assert probe.choice.channels_last


def test_it_is_timed_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(onednn.faster(), bool)
    monkeypatch.setattr(onednn, "_shortest", pytest.fail)
    onednn.faster()


def test_without_the_library_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not onednn.faster.__wrapped__()


def test_a_choice_from_before_is_timed_again() -> None:
    before = {"kind": "finite_difference", "step": 1e-3, "error": 1e-4, "channels_last": True, "reasons": {}}
    assert Choice.from_state(before).onednn is None
