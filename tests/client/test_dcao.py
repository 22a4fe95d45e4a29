"""`DCAO(model, loss)`: the fast way is the plain one, checkpoints are exact, and what arrives does not hurt."""

import copy
import itertools
import logging
import math
from typing import Any

import pytest
import torch
from torch import nn

from dcao_client import DCAO, DcaoError, MicroBatches, attach
from dcao_client.hooks.path_meter import PathMeter
from dcao_client.hooks.schedule_free import ScheduleFree
from dcao_client.hooks.schedule_free_plain import PlainPath, PlainTensor
from dcao_client.spectrum import ProbeSettings
from dcao_experiments.data import load_digits
from dcao_experiments.models import small_cnn
from dcao_experiments.training import accuracy, batches, cross_entropy

DATA = load_digits()
NOWHERE = "/dev/null/nowhere"


def fresh(**options: Any) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = small_cnn(8, width=4)
    return model, DCAO(model, cross_entropy, run="r", journal_dir=NOWHERE, overhead=None, **options)


def train(model: nn.Module, optimizer: Any, stream: Any) -> None:
    for batch in stream:
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step(batch=batch)


@pytest.mark.parametrize(("form", "forms"), [("adam", "adam"), ("sgd", "sgd"), ("muon", "muon"), ("muon", "mixed")])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_the_fast_step_is_the_plain_one(form, forms, decay):
    """Sixty steps on quadratics with noise, rates from the path under a ceiling: the same rates, y and x.

    Three tensors at one rate: a tall matrix and two of one shape, of which "mixed" leaves the last to Adam.
    """
    torch.manual_seed(1)
    shapes, ceiling = [(12, 5), (4, 2, 3), (4, 6)], None if form == "adam" else 0.4
    curvatures = [torch.logspace(-1, 1, math.prod(shape)).reshape(shape) for shape in shapes]
    each = ["muon", "muon", "adam"] if forms == "mixed" else [form] * 3
    starts = [torch.randn(shape) for shape in shapes]
    plain = PlainPath([PlainTensor(s, f) for s, f in zip(starts, each, strict=True)], weight_decay=decay)
    ys = [nn.Parameter(start.clone()) for start in starts]
    optimizer = ScheduleFree(ys, form=form, hidden=ys[:2] if forms == "mixed" else None, weight_decay=decay)
    meter = PathMeter(ys)
    for step in range(60):
        noise = [0.1 * torch.randn(shape) for shape in shapes]
        gradients = [c * t.y + n for c, t, n in zip(curvatures, plain.tensors, noise, strict=True)]
        plain.step(gradients, first_rate=0.01 if step == 0 else None, ceiling=ceiling)
        for y, c, n in zip(ys, curvatures, noise, strict=True):
            y.grad = c * y.detach() + n
        moving = optimizer.moving()
        carried, metric = optimizer.form.on_sketch(meter, ys, moving.moments, [y.grad for y in ys], step + 1)
        meter.saw(carried, metric)
        optimizer.prepare()
        if metric is not None:
            told = meter.flat([optimizer.preconditioner(y, y.grad) for y in ys])
            torch.testing.assert_close(told, metric, rtol=1e-4, atol=0)
        if step == 0:
            meter.start(0.01 / 2.5, metric)
        rate = 2.5 * meter.level
        if ceiling is not None:
            rate = min(rate, ceiling / optimizer.y_share(rate))
        optimizer.update(rate)
        meter.came(meter.flat([optimizer.average(y) for y in ys]), metric)
        assert rate == pytest.approx(plain.rates[-1], rel=1e-3)
    for y, t in zip(ys, plain.tensors, strict=True):
        torch.testing.assert_close(y.detach(), t.y, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(optimizer.average(y), t.x, rtol=1e-3, atol=1e-4)


def test_it_learns_without_a_rate_and_looking_leaves_no_trace():
    """Real digits; eval and train again bring y back bit for bit, so looking at a run does not change it."""
    stream = list(batches(DATA, 64, 150, seed=1))
    model, optimizer = fresh()
    seen, watched = fresh()
    train(model, optimizer, stream)
    for part in (stream[:70], stream[70:]):
        train(seen, watched, part)
        watched.eval()
        watched.train()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), seen.parameters(), strict=True))
    optimizer.eval()
    assert accuracy(model, DATA.x_test, DATA.y_test) > 0.7


@pytest.mark.parametrize(("mode", "form"), [("train", "adam"), ("eval", "adam"), ("train", "muon"), ("eval", "muon")])
def test_a_checkpoint_of_either_mode_goes_on_exactly(tmp_path, mode, form):
    """Through torch.save and weights_only: same weights, same decisions."""
    stream = list(batches(DATA, 64, 80, seed=1))
    model, optimizer = fresh(form=form)
    train(model, optimizer, stream[:40])
    getattr(optimizer, mode)()
    torch.save((model.state_dict(), optimizer.state_dict()), tmp_path / "c.pt")
    optimizer.train()
    train(model, optimizer, stream[40:])
    again, optimizer2 = fresh(form=form)
    weights, state = torch.load(tmp_path / "c.pt", weights_only=True)
    again.load_state_dict(weights)
    optimizer2.load_state_dict(state)
    optimizer2.train()
    train(again, optimizer2, stream[40:])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert optimizer.control.decision.lr == optimizer2.control.decision.lr
    assert optimizer2.steps == 80


@pytest.mark.parametrize("form", ["adam", "muon"])
def test_a_gradient_that_is_not_finite_is_left_out_and_a_lost_model_goes_back(form):
    """One bad batch costs a step; poisoned weights come back from the last healthy state with half the push."""
    stream = list(batches(DATA, 64, 60, seed=1))
    model, optimizer = fresh(rollback=True, form=form)
    train(model, optimizer, stream[:20])
    train(model, optimizer, [(stream[20][0] * float("nan"), stream[20][1])])
    assert optimizer.steps == 20
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    half = pytest.approx({"adam": 1.25, "muon": 0.6}[form])
    train(model, optimizer, stream[21:23])
    assert (optimizer.steps, optimizer.control.decision.multipliers.lr) == (0, half)
    for batch in stream[23:]:  # also at steps that were decided before the divergence
        train(model, optimizer, [batch])
        assert optimizer.control.decision.multipliers.lr == half
    assert all(p.isfinite().all() for p in model.parameters())


def test_what_is_forgotten_is_said_once(caplog):
    """No batch; evaluated and saved where it trains."""
    model, optimizer = fresh()
    batch = next(batches(DATA, 64, 1, seed=1))
    with caplog.at_level(logging.WARNING, "dcao"):
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
        for _ in range(2):
            accuracy(model, DATA.x_test, DATA.y_test)
            copy.deepcopy(model).state_dict()
            model.state_dict()
    for sentence in ("without batch=", "evaluated at the point", "saved at the point"):
        assert sum(sentence in record.getMessage() for record in caplog.records) == 1, sentence


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_any_batch_will_do(size):
    """Batches of one to eight under batch norm: nothing raises but what training itself would."""
    model, optimizer = fresh()
    train(model, optimizer, itertools.islice(batches(DATA, size, 40, seed=1), 40))
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_auto_ends_alike_at_every_base_rate_and_guard_stays_below(kind):
    """Twelve octaves of base rate, bit for bit; a sixteen-fold spike of the schedule is not followed by either."""

    def run(rate: float, trust: str) -> tuple[list[torch.Tensor], list[float]]:
        torch.manual_seed(0)
        model = small_cnn(8, width=4)
        made = torch.optim.SGD if kind == "sgd" else torch.optim.AdamW
        optimizer = made(model.parameters(), lr=rate, **({"momentum": 0.9} if kind == "sgd" else {"weight_decay": 0.0}))
        control = attach(
            model,
            optimizer,
            cross_entropy,
            trust=trust,
            run="r",
            journal_dir=NOWHERE,
            overhead=None,  # type: ignore[arg-type]
        )
        used = []
        for step, batch in enumerate(batches(DATA, 64, 60, seed=1)):
            optimizer.param_groups[0]["lr"] = rate * (16 if 30 <= step < 36 else 1)
            control.step(batch)
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
            used.append(control.applied.lr)
        return [p.detach() for p in model.parameters()], used

    small, large = run(2.0**-8, "auto"), run(2.0**4, "auto")
    assert small[1] == pytest.approx(large[1], rel=1e-9)
    for a, b in zip(small[0], large[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    if kind == "adamw":  # what fits is let through soon
        assert run(2.0**-9, "guard")[1][16:30] == [2.0**-9] * 14
    weights, guarded = run(2.0**4, "guard")
    assert all(p.isfinite().all() for p in weights)
    assert max(guarded) <= 16.0
    assert max(run(1e-4, "guard")[1][:30]) <= 1e-4 * (1 + 1e-12)


def test_a_layer_that_thaws_late_steps_like_the_others():
    """Its first gradient counts as its past: a step of Adam moves every weight by about the rate, never by 30 rates."""
    torch.manual_seed(0)
    early, late = nn.Parameter(torch.randn(20)), nn.Parameter(torch.randn(20))
    optimizer = ScheduleFree([early, late])
    for step in range(60):
        early.grad = torch.randn(20)
        late.grad = torch.randn(20) if step >= 50 else None
        before = late.detach().clone()
        optimizer.prepare()
        optimizer.update(0.01)
        assert float((late.detach() - before).abs().max()) <= 0.05
    assert "z" in optimizer.state[late]


def test_a_gradient_scaler_changes_nothing():
    """Powers of two are exact, so not a bit differs; a batch that overflows is left out by either."""
    stream = list(batches(DATA, 64, 30, seed=1))
    plain, optimizer = fresh()
    train(plain, optimizer, stream)
    scaled, optimizer2 = fresh()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step, batch in enumerate(stream):
        if step == 10:
            optimizer2.zero_grad()
            scaler.scale(cross_entropy(scaled, (batch[0] * float("inf"), batch[1]))).backward()
            scaler.step(optimizer2, batch=batch)
            scaler.update(1024.0)
        optimizer2.zero_grad()
        scaler.scale(cross_entropy(scaled, batch)).backward()
        scaler.step(optimizer2, batch=batch)
        scaler.update(1024.0)
    assert optimizer2.steps == 30
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), scaled.parameters(), strict=True))


def test_accumulated_micro_batches_are_the_batch():
    """Two halves accumulated and measured together go the way of the whole."""
    stream = list(batches(DATA, 64, 10, seed=1))
    ends = []
    for parts in (1, 2):
        torch.manual_seed(0)
        model = small_cnn(8, width=4, norm=False)
        optimizer: Any = DCAO(
            model, cross_entropy, run="r", journal_dir=NOWHERE, overhead=None, probe=ProbeSettings(probe_batch=64)
        )
        for x, y in stream:
            micro = MicroBatches(zip(x.chunk(parts), y.chunk(parts), strict=True))
            optimizer.zero_grad()
            for part in micro:
                (cross_entropy(model, part) / parts).backward()
            optimizer.step(batch=micro)
        ends.append((optimizer.control.spectrum.rho, [p.detach() for p in model.parameters()]))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=0.1)
    for a, b in zip(ends[0][1], ends[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=5e-3)


def test_a_controller_decides_what_the_client_alone_would(tmp_path, controller):
    """Online and offline: the same decisions and the same weights, bit for bit."""
    stream = list(batches(DATA, 64, 40, seed=1))
    ends = []
    for url in (None, controller.url):
        torch.manual_seed(0)
        model = small_cnn(8, width=4)
        optimizer: Any = DCAO(
            model,
            cross_entropy,
            run="twin",
            journal_dir=tmp_path / str(url is None),
            overhead=None,
            url=url,
            deadline=30.0,
        )
        train(model, optimizer, stream)
        ends.append((optimizer.control.decision, [p.detach() for p in model.parameters()]))
        assert optimizer.control.session.online == (url is not None)
        optimizer.control.finish()
    assert ends[0][0].multipliers == ends[1][0].multipliers
    assert ends[0][0].ceiling == ends[1][0].ceiling
    assert all(torch.equal(a, b) for a, b in zip(ends[0][1], ends[1][1], strict=True))


@pytest.mark.parametrize("online", [False, True])
def test_a_run_without_a_name_is_resumed_without_one(tmp_path, controller, online):
    """All defaults: the new process makes up another name, and goes on as the run of its checkpoint."""
    options = {"journal_dir": tmp_path, "overhead": None, "url": controller.url if online else None, "deadline": 30.0}
    stream = list(batches(DATA, 64, 20, seed=1))
    torch.manual_seed(0)
    model = small_cnn(8, width=4)
    first: Any = DCAO(model, cross_entropy, **options)
    train(model, first, stream[:10])
    weights, state = copy.deepcopy((model.state_dict(), first.state_dict()))
    train(model, first, stream[10:])
    first.control.session.close()
    again = small_cnn(8, width=4)
    second: Any = DCAO(again, cross_entropy, **options)
    assert second.control.session.run != first.control.session.run
    again.load_state_dict(weights)
    second.load_state_dict(state)
    train(again, second, stream[10:])
    session = second.control.session
    assert session.run == first.control.session.run
    assert session.attempt == 2
    assert session.online == online
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    session.finish()


def test_a_run_with_a_name_takes_no_other_runs_checkpoint():
    model, optimizer = fresh()
    other = DCAO(model, cross_entropy, run="another", journal_dir=NOWHERE)
    with pytest.raises(DcaoError, match="open the session with the checkpoint's names"):
        other.load_state_dict(optimizer.state_dict())
