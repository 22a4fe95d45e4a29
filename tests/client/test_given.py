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


def test_what_stands_in_anothers_place_is_named(tmp_path):
    """Parameters for the model, an optimizer before it, a batch for the closure, an interval of nothing, a typo."""
    model, optimizer = parts()
    with pytest.raises(TypeError, match=r"expected the model itself first, a torch\.nn\.Module; got generator"):
        DCAO(model.parameters(), loss)
    with pytest.raises(TypeError, match="expected the model itself first"):
        attach(optimizer, model, loss, journal_dir=tmp_path)
    with pytest.raises(TypeError, match=r"expected attach\(model, optimizer, loss\), got Linear for the optimizer"):
        attach(model, model, loss, journal_dir=tmp_path)
    for wrong in ({"trust": "guard"}, {"wieght_decay": 0.1}):
        with pytest.raises(TypeError, match=f"got {next(iter(wrong))}. Trust and policy are not chosen"):
            DCAO(model, loss, journal_dir=tmp_path, **wrong)
    for door in (lambda **more: attach(model, optimizer, loss, **more), lambda **more: DCAO(model, loss, **more)):
        with pytest.raises(ValueError, match="probe_interval"):
            door(probe_interval=0, journal_dir=tmp_path)
    for options in ({}, {"lr": 0.1}):
        made = DCAO(model, loss, journal_dir=tmp_path, **options)
        with pytest.raises(TypeError, match=r"expected step\(batch=…\).*got tuple"):
            made.step((torch.ones(4, 2), torch.zeros(4, 1)))


@pytest.mark.parametrize("how", ["group", "schedule", "factor"])
def test_a_learning_rate_where_none_belongs_is_said_once(how, tmp_path, caplog):
    """In a group, or by a schedule, it slows the run: nobody would see why. A factor among groups is none."""
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    first = {"group": 1e-3, "schedule": 1.0, "factor": 0.1}[how]
    groups = [{"params": model[0].parameters(), "lr": first}, {"params": model[2].parameters()}]
    optimizer = DCAO(model, loss, groups, journal_dir=tmp_path)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.1) if how == "schedule" else None
    batch = torch.randn(8, 2), torch.randn(8, 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step(batch=batch)
        if schedule is not None:
            schedule.step()
    told = [r.getMessage() for r in caplog.records if "factor on the rate" in r.getMessage()]
    assert len(told) == (0 if how == "factor" else 1), told
