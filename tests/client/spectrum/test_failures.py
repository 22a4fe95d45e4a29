"""What cannot be measured is a value with a name, and never the end of a training."""

import dataclasses
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dcao_client.hooks.torch_loop import attach
from dcao_client.spectrum import MicroBatches, Probe, ProbeSettings
from dcao_client.spectrum.torch.batches import couples_examples, measured_examples


def _normed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def _batch(n: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator), torch.randint(0, 3, (n,), generator=generator)


@pytest.mark.parametrize("size", [2, 4, 8, 32])
def test_a_batch_under_batch_norm_is_measured_whole(size: int, loss: Any) -> None:
    model = _normed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    control = attach(model, optimizer, loss, run=f"norm-{size}", journal_dir="/dev/null/nowhere")
    control.step(_batch(size))
    loss(model, _batch(size)).backward()
    optimizer.step()
    assert control.spectrum is not None
    assert (control.spectrum.status, control.spectrum.examples) == ("ok", size)
    control.finish()


@pytest.mark.parametrize(("examples", "wanted"), [(4, 4), (8, 8), (16, 8), (32, 8), (128, 32), (0, None)])
def test_a_share_has_a_floor_in_examples(examples: int, wanted: int | None) -> None:
    assert measured_examples(nn.Linear(2, 2), examples, 0.25) == wanted
    assert measured_examples(_normed(), examples, 0.25) is None


@pytest.mark.parametrize(("examples", "wanted"), [(4, None), (63, None), (64, 32), (65, 32), (128, 64), (0, None)])
def test_half_of_what_a_layer_couples_is_enough_for_a_rough_sharpness(examples: int, wanted: int | None) -> None:
    assert measured_examples(_normed(), examples, 0.25, roughly=True) == wanted
    assert measured_examples(_normed().eval(), examples, 0.25, roughly=True) == (
        max(8, examples // 4) if examples >= 8 else (examples or None)
    )


def test_layers_that_couple_examples() -> None:
    model = _normed()
    assert couples_examples(model)
    assert not couples_examples(model.eval())
    assert couples_examples(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)).eval())
    assert not couples_examples(nn.Sequential(nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.InstanceNorm1d(3)))


@pytest.mark.parametrize("ask", ["measure", "sharpness"])
def test_whatever_the_loss_raises_is_a_failed_probe(ask: str, loss: Any, caplog: pytest.LogCaptureFixture) -> None:
    probe = Probe(_normed(), loss)
    for _ in range(2):
        found = getattr(probe, ask)(_batch(1))
        assert found.status == "unavailable"
        assert (found.detail or "").startswith("ValueError: Expected more than 1 value per channel")
    assert probe.failures == 2
    assert len([r for r in caplog.records if "Expected more than 1 value" in r.getMessage()]) == 1
    assert getattr(probe, ask)(_batch(8)).status == "ok"


def test_a_strict_probe_raises_what_the_loss_raises(loss: Any) -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value"):
        Probe(_normed(), loss, settings=ProbeSettings(strict=True)).measure(_batch(1))


@pytest.mark.parametrize("empty", [_batch(0), MicroBatches([_batch(0)]), MicroBatches()])
def test_an_empty_batch_is_a_failed_probe(empty: Any, loss: Any) -> None:
    found = Probe(_normed().eval(), loss).measure(empty)
    assert found.status == "unavailable"
    assert "at least one example" in (found.detail or "")


def test_a_list_of_batches_is_told_what_it_should_be(loss: Any) -> None:
    found = Probe(_normed().eval(), loss).measure([_batch(4), _batch(4)])
    assert found.status == "unavailable"
    assert "MicroBatches(batch)" in (found.detail or "")


def test_an_empty_micro_batch_is_left_out(loss: Any) -> None:
    model = _normed().eval()
    whole = Probe(model, loss).measure(MicroBatches([_batch(8)]))
    assert Probe(model, loss).measure(MicroBatches([_batch(8), _batch(0)])).rho == whole.rho


def test_an_empty_last_batch_changes_nothing_of_those_that_follow(loss: Any) -> None:
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    control = attach(model, optimizer, loss, run="empty", probe_interval=1, overhead=None, journal_dir="/dev/null/no")
    control.step(_batch(0))
    for _ in range(3):
        loss(model, _batch(32)).backward()
        optimizer.step()
        control.step(_batch(32))
    assert control.spectrum is not None
    assert control.spectrum.status == "ok"
    assert control.spectrum.examples >= 8
    control.finish()


def test_a_lazy_module_is_measured_after_its_first_forward(loss: Any) -> None:
    model = nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.Linear(5, 3))
    probe = Probe(model, loss)
    before = probe.measure(_batch(8))
    assert before.status == "unavailable"
    assert "lazy layer" in (before.detail or "")
    assert isinstance(model[0].weight, nn.parameter.UninitializedParameter)
    model(_batch(8)[0])
    assert probe.measure(_batch(8)).status == "ok"


class _MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (_MuteError(), "_MuteError: (it cannot say what)"),
        (ValueError("\n\n  labels\x00 do not fit\nmore"), "ValueError: labels"),
    ],
)
def test_whatever_an_error_says_of_itself(raised: Exception, said: str) -> None:
    def refuses(model: nn.Module, batch: Any) -> Tensor:
        raise raised

    found = Probe(nn.Linear(4, 3), refuses).measure(_batch(8))
    assert found.status == "unavailable"
    assert (found.detail or "").startswith(said)


class _Stateful(nn.Module):
    """Its state has the whole batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("state", torch.zeros(32, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x + self.state)
        return out


@pytest.mark.parametrize("model", [_Stateful(), nn.LSTM(4, 3)])
def test_a_loss_that_takes_no_part_of_a_batch_is_measured_on_all_of_it(
    model: nn.Module, loss: Any, caplog: pytest.LogCaptureFixture
) -> None:
    packed = nn.utils.rnn.pack_sequence([torch.randn(5, 4) for _ in range(32)])
    batch = _batch(32) if isinstance(model, _Stateful) else packed
    ask = loss if isinstance(model, _Stateful) else (lambda m, b: m(b)[0].data.square().mean())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    control = attach(model, optimizer, ask, run="whole", probe_interval=1, overhead=None, journal_dir="/dev/null/no")
    for _ in range(3):
        control.step(batch)
        ask(model, batch).backward()
        optimizer.step()
        assert control.spectrum is not None
        assert control.spectrum.status == "ok"
    assert control.probe.failures == 1
    assert len([r for r in caplog.records if "whole batches are measured" in r.getMessage()]) == 1
    control.finish()


def test_a_loss_that_fails_on_the_whole_too_is_not_asked_twice_for_ever(loss: Any) -> None:
    calls: list[int] = []

    def refuses(model: nn.Module, batch: Any) -> Tensor:
        calls.append(len(batch[0]))
        raise ValueError("never")

    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    control = attach(model, optimizer, refuses, run="never", probe_interval=1, overhead=None, journal_dir="/dev/null/n")
    for _ in range(3):
        control.step(_batch(32))
        loss(model, _batch(32)).backward()
        optimizer.step()
    assert calls == [8, 32, 8, 8]
    control.finish()


@dataclasses.dataclass
class _Pair:
    x: Tensor
    y: Tensor
    names: list[str]


def test_batches_of_other_kinds_are_counted_and_cut(loss: Any) -> None:
    x, y = _batch(32)
    names = [str(i) for i in range(32)]

    def labelled(model: nn.Module, batch: Any) -> Tensor:
        assert len(batch.names) == len(batch.x)
        return loss(model, (batch.x, batch.y))  # type: ignore[no-any-return]

    model, part = nn.Linear(4, 3), ProbeSettings(probe_batch=8)
    found = Probe(model, labelled, settings=part).measure(_Pair(x, y, names))
    assert (found.status, found.examples) == ("ok", 8)
    assert found.rho == Probe(model, loss).measure((x[:8], y[:8])).rho

    own = dataclasses.replace(part, examples=lambda batch: len(batch.pair[0]))
    whole = Probe(model, lambda m, b: loss(m, b.pair), settings=own).measure(types.SimpleNamespace(pair=(x, y)))
    assert (whole.status, whole.examples) == ("ok", 32)


def test_control_may_begin_before_a_lazy_layers_first_forward(loss: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    control = attach(model, optimizer, loss, run="lazy", probe_interval=1, overhead=None, journal_dir="/dev/null/no")
    for step in range(3):
        control.step(_batch(8))
        assert control.spectrum is not None
        assert control.spectrum.status == ("unavailable" if step == 0 else "ok")
        loss(model, _batch(8)).backward()
        optimizer.step()
    assert control._controlled.path().distance > 0
    control.finish()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_scripted_model_is_measured_or_said_not_to_be(loss: Any) -> None:
    model = torch.jit.script(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)))
    before = [p.detach().clone() for p in model.parameters()]
    found = Probe(model, loss).measure(_batch(8))
    assert found.status == "ok" or found.detail
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), before, strict=True))
    loss(model, _batch(8)).backward()
