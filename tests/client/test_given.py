"""What `attach` and `DCAO` are given in another shape than they take: the error says which shape is wanted."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from dcao_client import DCAO, attach
from dcao_proto import Bounds


def loss(model, batch):
    return functional.mse_loss(model(batch[0]), batch[1])


def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(2, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (nn.MSELoss(), "got MSELoss, which compares outputs with targets"),
        (nn.CrossEntropyLoss(), "got CrossEntropyLoss, which compares outputs with targets"),
        (functional.cross_entropy, "got cross_entropy, which compares outputs with targets"),
        (lambda batch: batch, r"got <lambda>\(batch\)"),
        (torch.tensor(1.0), "a function; got Tensor"),
        ("mse", "a function; got str"),
    ],
)
def test_a_loss_of_another_shape_is_refused_with_the_shape(wrong, said, tmp_path):
    """At once, by either door, and not as a probe that is never available."""
    model, optimizer = parts()
    for door in (lambda: attach(model, optimizer, wrong, journal_dir=tmp_path), lambda: DCAO(model, wrong)):
        with pytest.raises(TypeError, match=rf"expected loss\(model, batch\), .*{said}") as refused:
            door()
        assert "loss=lambda model, batch: criterion(model(batch[0]), batch[1])" in str(refused.value)


def test_any_callable_of_two_is_a_loss(tmp_path):
    """Functions, methods, objects, modules, and those with more arguments that have defaults."""

    class Objective(nn.Module):
        def forward(self, model, batch, scale=1.0):
            return scale * loss(model, batch)

        def measure(self, model, batch):
            return loss(model, batch)

    for one in (loss, Objective(), Objective().measure, lambda *both: loss(*both)):
        model, optimizer = parts()
        dcao = attach(model, optimizer, one, journal_dir=tmp_path)
        assert dcao.step((torch.ones(4, 2), torch.zeros(4, 1))).regime != "held"
        dcao.finish()


@pytest.mark.parametrize("wrong", [(0.5, 2), {"lr": (0.5, 2)}, 0.5])
def test_bounds_of_another_shape_are_refused_with_the_shape(wrong, tmp_path):
    """A pair is the obvious thing to try."""
    model, optimizer = parts()
    with pytest.raises(TypeError, match=r"expected bounds=Bounds\(lr=\(0\.5, 2\.0\)\)") as refused:
        attach(model, optimizer, loss, bounds=wrong, journal_dir=tmp_path)
    assert "from dcao_proto import Bounds" in str(refused.value)
    attach(model, optimizer, loss, bounds=Bounds(lr=(0.5, 2.0)), journal_dir=tmp_path).finish()


def test_labels_may_be_numbers(tmp_path):
    """Seeds and sizes are what runs are labelled with; on the wire they are text."""
    model, optimizer = parts()
    dcao = attach(model, optimizer, loss, labels={"seed": 3, "width": 0.5, "model": "vit"}, journal_dir=tmp_path)
    assert dcao.session.spec.labels == {"seed": "3", "width": "0.5", "model": "vit"}
    dcao.finish()
    averaged = DCAO(model, loss, labels={"seed": 3}, journal_dir=tmp_path)
    assert averaged.control.session.spec.labels == {"seed": "3"}
    averaged.control.finish()


@pytest.mark.parametrize("wrong", ["seed=3", {"seed": None}, {3: "seed"}, {"seed": [1, 2]}])
def test_other_labels_are_refused_with_the_shape(wrong, tmp_path):
    model, optimizer = parts()
    with pytest.raises(TypeError, match=r"expected labels=\{'seed': 3, 'model': 'vit'\}, got"):
        attach(model, optimizer, loss, labels=wrong, journal_dir=tmp_path)
