"""Convolutions in the faster order of memory: the same curvature, the same model afterwards, and no way to go wrong."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dcao_client.spectrum import Probe, ProbeSettings
from dcao_client.spectrum.torch.batches import mapped
from dcao_client.spectrum.torch.channels_last import worthwhile
from dcao_client.spectrum.torch.choose import Choice

Batch = tuple[Tensor, Tensor]


class Convolutions(nn.Module):
    """Two convolutions with a pool; ``flatten`` decides whether the model asks for an order of memory."""

    def __init__(self, flatten: Any) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)
        self.head, self.flatten = nn.Linear(6 * 3 * 3, 4), flatten

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.max_pool2d(torch.relu(self.first(x)), 2)
        h = torch.relu(self.second(h))
        return self.head(self.flatten(h))


class _AsStored(torch.autograd.Function):
    """Reads memory in the order in which it lies, as a kernel does that takes the usual order for granted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.as_strided((len(x), x.numel() // len(x)), (x.numel() // len(x), 1)).clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].view(-1, 6, 3, 3)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def drawn(flatten: Any) -> tuple[Convolutions, Batch]:
    torch.manual_seed(0)
    return Convolutions(flatten), (torch.randn(64, 3, 12, 12), torch.randint(0, 4, (64,)))


def exact(model: nn.Module, batch: Batch) -> tuple[float, float]:
    tight = ProbeSettings(matvec="double_backward", max_matvecs=60, rho_tol=1e-6, gamma_tol=1e-5, gamma_floor=0.0)
    found = Probe(model, loss, settings=tight).measure(batch)
    assert found.rho is not None
    assert found.gamma is not None
    return found.rho, found.gamma


def test_the_curvature_is_that_of_the_usual_order() -> None:
    model, batch = drawn(lambda h: h.flatten(1))
    rho, gamma = exact(model, batch)
    probe = Probe(model, loss)
    found = probe.measure(batch)
    assert probe.choice.kind == "finite_difference"
    assert probe.choice.channels_last
    assert found.rho == pytest.approx(rho, rel=0.01)
    assert found.gamma == pytest.approx(gamma, rel=0.05)


def test_the_model_and_the_batch_keep_their_order() -> None:
    model, batch = drawn(lambda h: h.flatten(1))
    before = {name: (p.stride(), p.data_ptr(), p.clone()) for name, p in model.named_parameters()}
    Probe(model, loss).measure(batch)
    for name, parameter in model.named_parameters():
        stride, place, values = before[name]
        assert (parameter.stride(), parameter.data_ptr()) == (stride, place)
        assert torch.equal(parameter, values)
    assert batch[0].is_contiguous()


@pytest.mark.parametrize("flatten", [lambda h: h.view(len(h), -1), _AsStored.apply], ids=["refuses", "misreads"])
def test_a_model_that_needs_the_usual_order_is_measured_in_it(flatten: Any) -> None:
    """One says so by an error, the other by a gradient that is not its own."""
    model, batch = drawn(flatten)
    plain, _ = drawn(lambda h: h.flatten(1))
    rho, gamma = exact(plain, batch)
    probe = Probe(model, loss)
    found = probe.measure(batch)
    assert not probe.choice.channels_last
    assert found.rho == pytest.approx(rho, rel=0.01)
    assert found.gamma == pytest.approx(gamma, rel=0.05)


def test_what_the_loss_raises_is_named() -> None:
    model, batch = drawn(lambda h: h.flatten(1))
    probe = Probe(model, loss)
    probe.measure(batch)
    found = probe.measure((torch.randn(8, 5, 12, 12), batch[1][:8]))
    assert (found.status, probe.failures) == ("unavailable", 1)
    assert "expected input" in (found.detail or "")


def test_a_choice_is_kept_in_a_state_and_one_from_before_is_read() -> None:
    choice = Choice("finite_difference", 1e-3, 1e-4, channels_last=False, reasons={"gauss_newton": "no"})
    assert Choice.from_state(choice.state_dict()) == choice
    before = {"kind": "finite_difference", "step": 1e-3, "error": 1e-4, "reasons": {}}
    assert Choice.from_state(before).step == 1e-3


def test_it_takes_kernels_and_images_both() -> None:
    kernels, images = [torch.zeros(2, 3, 3, 3)], {"x": torch.zeros(4, 3, 5, 5)}
    assert worthwhile(kernels, [images])
    assert not worthwhile([torch.zeros(3, 3)], [images])
    assert not worthwhile(kernels, [images, torch.zeros(4, 3)])
    assert not worthwhile(kernels, [torch.zeros(4, 3, 5, 5, dtype=torch.long)])


def test_a_batch_is_mapped_through_its_containers() -> None:
    batch = {"pair": (torch.ones(2), [torch.ones(3), "text"]), "none": None}
    doubled = mapped(batch, lambda t: 2 * t)
    assert doubled["pair"][1][0].tolist() == [2.0, 2.0, 2.0]
    assert doubled["pair"][1][1] == "text"
    assert doubled["none"] is None
