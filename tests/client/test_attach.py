"""A torch loop under control."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dcao_client import DCAO, DcaoError, attach
from dcao_client.journal import read_journal
from dcao_client.spectrum import ProbeSettings
from dcao_experiments.data import load_digits
from dcao_experiments.models import small_cnn
from dcao_experiments.training import batches, cross_entropy, train

DATA = load_digits()


def cnn(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return small_cnn(8, width=4)


def sgd(model: nn.Module, **options: float) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **{"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, **options})


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_whose_decisions_are_ignored_is_bit_identical_to_one_without_a_probe(tmp_path):
    """200 steps with batch norm, momentum and weight decay: not a bit of the weights or buffers differs."""
    plain, watched = cnn(), cnn()
    for _ in train(plain, sgd(plain), batches(DATA, 64, 200, seed=1)):
        pass
    optimizer = sgd(watched)
    dcao = attach(
        watched,
        optimizer,
        cross_entropy,
        policy="constant",
        probe_interval=10,
        overhead=None,
        run="r",
        journal_dir=tmp_path,
    )
    for _ in train(watched, optimizer, batches(DATA, 64, 200, seed=1), dcao=dcao):
        pass
    assert dcao.session.stats.decisions == 20
    assert same(weights(plain), weights(watched))
    dcao.finish()


def test_the_optimizer_is_the_proposals_update(tmp_path):
    """v ← βv + g + λθ, θ ← θ − ηv with the decided η, β, λ; and it is torch's SGD with those values, bit for bit."""
    model, twin = cnn(), cnn()
    theta = [p.detach().double() for p in model.parameters()]
    velocity = [torch.zeros_like(p) for p in theta]
    optimizer = DCAO(
        model, cross_entropy, lr=0.05, momentum=0.9, weight_decay=5e-4, probe_interval=5, overhead=None, run="r",
        journal_dir=tmp_path,
        policy="paper", policy_params={"rho_ref": 5.0, "gamma_ref": 2.0},
    )  # fmt: skip
    reference = sgd(twin)
    moved = set()
    for batch in batches(DATA, 64, 30, seed=1):
        for net in (model, twin):
            net.zero_grad()
            cross_entropy(net, batch).backward()
        gradients = [p.grad.double() for p in model.parameters()]
        optimizer.step(batch=batch)
        used = optimizer.control.applied
        moved.add(used)
        reference.param_groups[0].update(lr=used.lr, momentum=used.momentum, weight_decay=used.weight_decay)
        reference.step()
        for i, gradient in enumerate(gradients):
            velocity[i] = used.momentum * velocity[i] + gradient + used.weight_decay * theta[i]
            theta[i] = theta[i] - used.lr * velocity[i]
    assert len(moved) > 3
    assert same(weights(model), weights(twin))
    for p, expected in zip(model.parameters(), theta, strict=True):
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-4, atol=1e-5)
    optimizer.control.finish()


def test_the_drop_in_works_without_a_batch_and_with_a_closure(tmp_path):
    """Anything that drives an SGD can drive it; without a batch nothing is measured."""
    model = cnn()
    optimizer = DCAO(model, cross_entropy, lr=0.05, run="r", journal_dir=tmp_path)
    batch = next(batches(DATA, 64, 1, seed=1))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model, batch)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert optimizer.control.decision is None
    assert (optimizer.steps, optimizer.applied.lr) == (1, 0.05)
    assert optimizer.step(closure) < first
    optimizer.control.finish()


def test_a_resumed_run_goes_on_exactly(tmp_path):
    """Checkpoint at step 50 of 100, restore into new objects: same decisions, same weights, bit for bit."""

    def fresh(journal: Path) -> tuple:
        model = cnn()
        optimizer = sgd(model)
        control = attach(
            model, optimizer, cross_entropy, probe_interval=10, overhead=None, run="r", journal_dir=journal
        )
        return model, optimizer, control

    stream = list(batches(DATA, 64, 100, seed=1))
    model, optimizer, control = fresh(tmp_path / "a")
    for _ in train(model, optimizer, iter(stream[:50]), dcao=control):
        pass
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), control.state_dict()))
    for _ in train(model, optimizer, iter(stream[50:]), dcao=control):
        pass
    again, optimizer2, control2 = fresh(tmp_path / "b")
    again.load_state_dict(saved[0])
    optimizer2.load_state_dict(saved[1])
    control2.load_state_dict(saved[2])
    for _ in train(again, optimizer2, iter(stream[50:]), dcao=control2):
        pass
    assert same(weights(model), weights(again))
    assert control2.session.last.lr == control.session.last.lr
    assert control2.session.last.state == control.session.last.state
    assert control2.session.attempt == control.session.attempt + 1
    control.finish()
    control2.finish()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    """The message names both runs."""
    model = cnn()
    one = attach(model, sgd(model), cross_entropy, run="one", journal_dir=tmp_path)
    two = attach(model, sgd(model), cross_entropy, run="two", journal_dir=tmp_path)
    with pytest.raises(DcaoError, match=r"default/one.*default/two"):
        two.load_state_dict(one.state_dict())


def test_accumulated_micro_batches_count_as_one_step(tmp_path):
    """Four micro-batches an update: probes every tenth update, not every tenth micro-batch."""
    model = cnn()
    optimizer = sgd(model)
    control = attach(
        model,
        optimizer,
        cross_entropy,
        policy="constant",
        probe_interval=10,
        overhead=None,
        run="r",
        journal_dir=tmp_path,
    )
    probed = []
    for i, batch in enumerate(batches(DATA, 16, 100, seed=1)):
        if control.step(batch) is not None:
            probed.append(i)
        (cross_entropy(model, batch) / 4).backward()
        if i % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
    assert probed == [0, 40, 80]
    assert control.steps == 25
    control.finish()


def test_a_diverged_run_backs_off_and_says_so(tmp_path):
    """A loss that is not finite never becomes a number on the wire: the status says it, f is halved."""
    model = cnn()
    optimizer = sgd(model)
    control = attach(model, optimizer, cross_entropy, run="r", journal_dir=tmp_path)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    decision = control.step(next(batches(DATA, 64, 1, seed=1)))
    assert (decision.regime, decision.action) == ("diverged", "rollback")
    assert decision.multipliers.lr == pytest.approx(0.5 * 2.2 * (1 - 0.9))  # half the push
    control.finish()


def test_a_fixed_probe_batch_is_measured_instead_of_the_steps_own(tmp_path):
    """With `probe_data` no batch is needed, and the fingerprint says so."""
    model = cnn()
    optimizer = sgd(model)
    fixed = DATA.x[:32], DATA.y[:32]
    control = attach(model, optimizer, cross_entropy, policy="edge", probe_data=fixed, run="r", journal_dir=tmp_path)
    other = attach(model, sgd(model), cross_entropy, policy="edge", overhead=None, run="s", journal_dir=tmp_path)
    control.step()
    other.step(fixed)
    assert control.spectrum.examples == 32
    assert control.spectrum.rho == pytest.approx(other.spectrum.rho, rel=1e-3)
    assert control.spectrum.fingerprint != other.spectrum.fingerprint


@pytest.mark.parametrize("coupled", [True, False])
def test_a_budget_stretches_the_interval_and_measures_a_part_of_the_batch(coupled, tmp_path):
    """A budget that pays for nothing allows the first probe and no other; the promise also chooses the batch.

    But not under batch norm in training, where a part of a batch is another function.
    """
    model = cnn() if coupled else nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    model(DATA[0][:2])
    optimizer = sgd(model)
    control = attach(
        model, optimizer, cross_entropy, policy="edge", probe_interval=5, overhead=1e-9, run="r", journal_dir=tmp_path
    )
    probed = [r.step for r in train(model, optimizer, batches(DATA, 64, 60, seed=1), dcao=control) if r.probed]
    assert probed == [0]
    assert control.spectrum.examples == (64 if coupled else 16)
    control.finish()


def test_what_probes_cost_is_reported_with_every_observation(tmp_path):
    """The share of wall-clock time that probes took so far; unknown at the first."""
    model = cnn()
    optimizer = sgd(model)
    control = attach(
        model, optimizer, cross_entropy, policy="edge", probe_interval=5, overhead=None, run="r", journal_dir=tmp_path
    )
    for _ in train(model, optimizer, batches(DATA, 64, 30, seed=1), dcao=control):
        pass
    _, entries = read_journal(control.session.journal_path)
    shares = [entry.observation.probe.overhead for entry in entries]
    assert shares[0] is None
    assert len(shares) == 6
    assert all(0 < share < 1 for share in shares[1:])
    control.finish()


def test_the_ragged_last_batch_of_an_epoch_is_not_measured(tmp_path):
    """It would carry another fingerprint and start every reference anew; the next full batch is measured instead."""
    model = cnn()
    optimizer = sgd(model)
    control = attach(
        model, optimizer, cross_entropy, policy="edge", probe_interval=5, overhead=None, run="r", journal_dir=tmp_path
    )
    stream = list(batches(DATA, 64, 12, seed=1))
    stream[5] = stream[5][0][:20], stream[5][1][:20]
    reports = train(model, optimizer, iter(stream), dcao=control)
    assert [report.step for report in reports if report.probed] == [0, 6, 11]
    control.finish()


def test_a_measurement_without_a_gap_moves_the_learning_rate_only(tmp_path):
    """Where no gradient may be taken twice, the forward-only sharpness has no second eigenvalue."""
    model = cnn()
    optimizer = sgd(model)
    settings = ProbeSettings(matvec="critical")
    control = attach(
        model, optimizer, cross_entropy, probe=settings, overhead=None, policy="edge", run="r", journal_dir=tmp_path
    )
    decision = control.step(next(batches(DATA, 64, 1, seed=1)))
    assert control.spectrum.status == "ok"
    assert control.spectrum.gamma is None
    assert "held:gap" in decision.reasons
    assert decision.momentum == 0.9
    assert decision.multipliers.lr != 1.0
    control.finish()


class Pair:
    """A batch as some loaders make it: nothing in it can be counted from outside."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x, y


def test_a_list_from_a_loader_is_one_batch(tmp_path: Path) -> None:
    data = TensorDataset(torch.randn(12, 4), torch.randint(3, (12,)))
    model = nn.Linear(4, 3)
    optimizer = sgd(model)
    control = attach(model, optimizer, cross_entropy, run="list", journal_dir=tmp_path, overhead=None)
    drop_in = DCAO(model, cross_entropy, run="list-2", journal_dir=tmp_path, overhead=None)
    for batch in DataLoader(data, batch_size=4):
        assert isinstance(batch, list)
        control.step(batch)
        cross_entropy(model, batch).backward()
        optimizer.step()
        drop_in.step(batch=batch)
    for attachment in (control, drop_in.control):
        assert attachment.spectrum is not None
        assert attachment.spectrum.status == "ok"


def test_a_batch_that_cannot_be_counted_is_a_failed_probe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Linear(4, 3)
    loss = lambda m, b: nn.functional.cross_entropy(m(b.x), b.y)  # noqa: E731
    control = attach(model, sgd(model), loss, run="pair", journal_dir=tmp_path)
    control.step(Pair(torch.randn(4, 4), torch.randint(3, (4,))))
    assert control.spectrum is not None
    assert control.spectrum.status == "unavailable"
    assert "ProbeSettings(examples=" in caplog.text


def test_a_second_attach_takes_the_place_of_the_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A notebook cell run again: the learning rate must not be multiplied twice, nor the base be lost."""
    model, batch = nn.Linear(4, 3), (torch.randn(8, 4), torch.randint(3, (8,)))
    optimizer = sgd(model)
    for _ in range(3):
        control = attach(model, optimizer, cross_entropy, run="cell", journal_dir=tmp_path, policy="paper")
    for _ in range(5):
        control.step(batch)
        cross_entropy(model, batch).backward()
        optimizer.step()
    assert control.steps == 5
    assert control.decision is not None
    assert control.applied is not None
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert control.applied.lr == pytest.approx(0.05 * control.decision.multipliers.lr)
    assert caplog.text.count("attached already") == 2


def test_what_cannot_be_controlled_is_refused_at_attach(tmp_path: Path) -> None:
    model = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="LBFGS"):
        attach(model, torch.optim.LBFGS(model.parameters()), cross_entropy, journal_dir=tmp_path)
    for drop_in in (DCAO(model, cross_entropy, journal_dir=tmp_path), DCAO(model, cross_entropy, lr=0.1)):
        with pytest.raises(ValueError, match="controls itself"):
            attach(model, drop_in, cross_entropy, journal_dir=tmp_path)


def test_with_says_how_the_run_ended(tmp_path: Path) -> None:
    model = nn.Linear(4, 3)
    with attach(model, sgd(model), cross_entropy, journal_dir=tmp_path) as control:
        control.step((torch.randn(8, 4), torch.randint(3, (8,))))
    assert control.session is not None
    with pytest.raises(KeyError), attach(model, sgd(model), cross_entropy, journal_dir=tmp_path):
        raise KeyError("the training's own")


@pytest.mark.parametrize("drop_in", [False, True])
def test_a_loop_that_never_measures_is_told_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, drop_in: bool
) -> None:
    """With `attach`, and with a DCAO whose `step` never gets a batch."""
    model, batch = nn.Linear(4, 3), (torch.randn(8, 4), torch.randint(3, (8,)))
    if drop_in:
        optimizer: torch.optim.Optimizer = DCAO(model, cross_entropy, lr=0.05, journal_dir=tmp_path)
        control = optimizer.control
    else:
        optimizer = sgd(model)
        control = attach(model, optimizer, cross_entropy, journal_dir=tmp_path)
    for _ in range(10):
        cross_entropy(model, batch).backward()
        optimizer.step()
    assert control.finish()
    (said,) = [record.getMessage() for record in caplog.records]
    assert "nothing was measured or decided in 3 optimizer steps; call dcao.step(batch) before each optimizer" in said
    assert "optimizer.step(batch=batch)" in said


def test_a_short_loop_that_never_measured_is_told_at_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Linear(4, 3)
    control = attach(model, optimizer := sgd(model), cross_entropy, journal_dir=tmp_path)
    cross_entropy(model, (torch.randn(8, 4), torch.randint(3, (8,)))).backward()
    optimizer.step()
    assert caplog.text == ""
    control.finish()
    assert "nothing was measured or decided in 1 optimizer steps" in caplog.text


def test_measuring_after_the_update_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for order in ("before", "after"):
        caplog.clear()
        model, batch = nn.Linear(4, 3), (torch.randn(8, 4), torch.randint(3, (8,)))
        with attach(model, optimizer := sgd(model), cross_entropy, journal_dir=tmp_path) as control:
            for _ in range(5):
                if order == "before":
                    control.step(batch)
                optimizer.zero_grad()
                cross_entropy(model, batch).backward()
                optimizer.step()
                if order == "after":
                    control.step(batch)
        assert caplog.text.count("was first called after optimizer.step()") == (order == "after")
        assert "nothing was measured" not in caplog.text


@pytest.mark.parametrize("lr", [None, 0.05])
def test_data_of_ones_own_needs_no_batch(tmp_path: Path, caplog: pytest.LogCaptureFixture, lr: float | None) -> None:
    model, batch = nn.Linear(4, 3), (torch.randn(8, 4), torch.randint(3, (8,)))
    optimizer = DCAO(model, cross_entropy, lr=lr, probe_data=batch, journal_dir=tmp_path)
    for _ in range(4):
        cross_entropy(model, batch).backward()
        optimizer.step()
    assert optimizer.control.spectrum is not None
    assert optimizer.control.spectrum.status == "ok"
    assert "batch=" not in caplog.text


def test_an_end_says_whether_it_was_heard(tmp_path: Path) -> None:
    """True without a controller, False where it is away."""
    for url, heard in ((None, True), ("http://127.0.0.1:9", False)):
        model = nn.Linear(4, 3)
        control = attach(model, sgd(model), cross_entropy, url=url, deadline=0.01, journal_dir=tmp_path)
        control.step((torch.randn(8, 4), torch.randint(3, (8,))))
        assert control.finish() is heard
