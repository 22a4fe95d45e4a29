"""Ignite's trainers under control."""

from pathlib import Path

import pytest
import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver, LinearCyclicalScheduler, global_step_from_engine
from ignite.metrics import Loss
from torch import nn

from dcao_client import DCAO
from dcao_client.hooks.attachment import Attachment
from dcao_client.hooks.ignite import attach
from tests.frameworks.regression import CONTROL, Updates, flat, loader, mse, net, run_ranks


class Loop:
    """A supervised trainer, with or without us."""

    def __init__(self, kind: str = "sgd", *, accumulate: int = 1, ours: bool = True, **options: object) -> None:
        self.model = net()
        self.optimizer = {
            "sgd": lambda: torch.optim.SGD(self.model.parameters(), lr=0.1),
            "adamw": lambda: torch.optim.AdamW(self.model.parameters(), lr=0.05),
            "dcao": lambda: DCAO(self.model, mse, run="r", overhead=None, probe_interval=4),
        }[kind]()
        self.trainer = create_supervised_trainer(
            self.model, self.optimizer, nn.functional.mse_loss, gradient_accumulation_steps=accumulate
        )
        self.evaluator = create_supervised_evaluator(self.model, metrics={"mse": Loss(nn.functional.mse_loss)})
        self.updates, self.factors, self.evaluated = Updates(), [], []
        self.control = None
        if ours:
            self.control = attach(self.trainer, self.model, self.optimizer, mse, evaluators=[self.evaluator], **options)
        if kind == "sgd":
            self.optimizer.register_step_pre_hook(self.before)
            self.optimizer.register_step_post_hook(lambda *_: self.updates.after(self.model))
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.evaluator.run(loader()))
        self.evaluator.add_event_handler(Events.STARTED, lambda: self.evaluated.append(self.weights()))

    def before(self, *_: object) -> None:
        self.updates.before(self.model)
        if self.control is not None and self.control.decision is not None:
            self.factors.append(self.control.decision.multipliers.lr)

    def weights(self) -> torch.Tensor:
        return flat(list(self.model.parameters()))

    def run(self, epochs: int) -> torch.Tensor:
        self.trainer.run(loader(), max_epochs=epochs)
        return self.weights()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_update_uses_the_schedule_times_the_decided_factor(accumulate):
    """From weights and gradients: η = what Ignite's scheduler says, times f, at every step."""
    loop, said = Loop(accumulate=accumulate, run="r", **CONTROL), []
    schedule = LinearCyclicalScheduler(loop.optimizer, "lr", 0.1, 0.02, 16)
    loop.trainer.add_event_handler(Events.ITERATION_STARTED, schedule)
    loop.optimizer.register_step_pre_hook(lambda *_: said.append(0))
    loop.trainer.add_event_handler(
        Events.ITERATION_COMPLETED(every=accumulate), lambda: said.append(loop.optimizer.param_groups[0]["lr"])
    )
    loop.run(2)
    base = [value for value in said if value]
    assert len(loop.updates.rates) == 16 // accumulate == loop.control.session.stats.decisions
    assert len(set(base)) > 3
    assert loop.updates.rates == pytest.approx([b * f for b, f in zip(base, loop.factors, strict=True)], rel=1e-3)
    assert len({round(f, 6) for f in loop.factors}) > 3


def test_training_that_is_only_watched_is_bit_identical():
    """Every bit of the weights."""
    watched = Loop(run="r", trust="watch", overhead=None, probe_interval=2)
    assert torch.equal(Loop(ours=False).run(2), watched.run(2))
    assert watched.control.session.stats.decisions > 5


@pytest.mark.parametrize("kind", ["adamw", "dcao"])
def test_a_checkpoint_goes_on_exactly(tmp_path, kind):
    """Weights and decisions bit for bit from what Ignite's `Checkpoint` wrote."""
    options = {} if kind == "dcao" else {"run": "r", "trust": "auto", "overhead": None, "probe_interval": 4}

    def parts(loop: Loop) -> dict[str, object]:
        found = {"model": loop.model, "optimizer": loop.optimizer, "trainer": loop.trainer}
        return found if kind == "dcao" else {**found, "dcao": loop.control}

    loop, again = Loop(kind, **options), Loop(kind, **options)
    saver = Checkpoint(
        parts(loop), DiskSaver(tmp_path), n_saved=None, global_step_transform=global_step_from_engine(loop.trainer)
    )
    loop.trainer.add_event_handler(Events.EPOCH_COMPLETED, saver)
    whole = loop.run(3)
    Checkpoint.load_objects(parts(again), torch.load(tmp_path / "checkpoint_2.pt", weights_only=True))
    assert torch.equal(again.run(3), whole)
    assert again.control.decision.lr == loop.control.decision.lr
    assert again.control.session.attempt == loop.control.session.attempt + 1


def test_dcao_is_evaluated_and_saved_at_x(tmp_path):
    """And trains as in a loop of one's own."""
    loop, x = Loop("dcao"), []
    loop.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: x.append(flat([loop.optimizer.average(p) for p in loop.model.parameters()]))
    )
    end = loop.run(2)
    assert [torch.equal(seen, x[at]) for seen, at in zip(loop.evaluated, (7, 15), strict=True)] == [True, True]
    assert torch.equal(end, x[-1])
    twin = net()
    optimizer = DCAO(twin, mse, run="r", overhead=None, probe_interval=4)
    for batch in [*loader(), *loader()]:
        optimizer.zero_grad()
        mse(twin, batch).backward()
        optimizer.step(batch=tuple(batch))
    optimizer.eval()
    assert torch.equal(end, flat(list(twin.parameters())))


@pytest.mark.parametrize("where", ["step", "_use", "log_applied"])
def test_an_exception_of_ours_stops_no_training(monkeypatch, where):
    """Every step is taken as it would have been; a controller that is away stops nothing either."""

    def broken(*_, **__):
        raise RuntimeError("of ours")

    monkeypatch.setattr(Attachment, where, broken)
    loop = Loop(run="r", trust="watch", url="http://127.0.0.1:9")
    loop.run(2)
    assert loop.updates.rates == pytest.approx([0.1] * 16, rel=1e-4)


def test_a_controller_that_is_away_stops_no_training():
    """The same decisions are made in-process."""
    loop = Loop(run="r", url="http://127.0.0.1:9", **CONTROL)
    loop.run(2)
    assert loop.control.session.stats.in_process == 16


def test_two_ranks_hold_equal_weights(tmp_path):
    """`idist` over gloo, other batches on each rank, fifty decisions and more."""
    run_ranks(Path(__file__).with_name("ignite_rank.py"), str(tmp_path))
    (one, decisions), (two, none) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert decisions >= 50
    assert none is None
    assert torch.equal(one, two)
