"""`CurvatureCallback` in a real Lightning Trainer."""

import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from dcao_client import DCAO
from dcao_client.hooks.attachment import Attachment
from dcao_client.hooks.lightning import CurvatureCallback
from tests.frameworks.regression import CONTROL, Updates, flat, loader, mse, net, run_ranks


class Module(LightningModule):
    """Automatic or manual optimization of the small problem by SGD under a schedule."""

    def __init__(self, kind: str = "sgd", *, manual: bool = False) -> None:
        super().__init__()
        self.net, self.kind, self.updates, self.seen = net(), kind, Updates(), []
        self.automatic_optimization = not manual
        self.dropout, self.interval = nn.Dropout(0.2), 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.dropout(x))

    def configure_optimizers(self):
        if self.kind == "dcao":
            return DCAO(self, mse, run="r", overhead=None, probe_interval=self.interval)
        if self.kind == "adamw":
            return torch.optim.AdamW(self.parameters(), lr=0.05)
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def training_step(self, batch, batch_idx):
        loss = mse(self, batch)
        self.log("loss", loss)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.updates.before(self)
            optimizer.step()
            self.lr_schedulers().step()
        return loss

    def on_before_optimizer_step(self, optimizer):
        if self.automatic_optimization and self.kind == "sgd":
            self.updates.before(self)

    def on_train_batch_end(self, *_):
        self.updates.after(self)

    def validation_step(self, batch, batch_idx):
        self.seen.append(flat(list(self.parameters())))
        self.log("val", mse(self, batch))


def trainer(tmp_path: Path, *callbacks: Callback, epochs: int = 2, **options) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
    options.setdefault("logger", False)
    options.setdefault("enable_checkpointing", any(isinstance(c, ModelCheckpoint) for c in callbacks))
    return Trainer(default_root_dir=tmp_path, max_epochs=epochs, callbacks=list(callbacks), **quiet, **options)


class Decisions(Callback):
    """What was in force at each optimizer step."""

    def __init__(self, callback: CurvatureCallback) -> None:
        self.callback, self.factors = callback, []

    def on_train_batch_end(self, trainer, *_):
        if len(self.factors) < trainer.global_step:
            self.factors.append(self.callback.control.decision.multipliers.lr)


@pytest.mark.parametrize(("manual", "accumulate"), [(False, 1), (False, 3), (True, 1)])
def test_the_update_uses_the_schedule_times_the_decided_factor(tmp_path, manual, accumulate):
    """From weights and gradients: η = 0.1·0.9ᵗ·f at every step; the schedule is the user's, f moves."""
    module = Module(manual=manual)
    ours = CurvatureCallback(mse if manual else None, run="r", **CONTROL)
    seen = Decisions(ours)
    trainer(tmp_path, ours, seen, accumulate_grad_batches=accumulate).fit(module, loader())
    assert len(module.updates.rates) == len(seen.factors) == (16 if accumulate == 1 else 6)
    expected = [0.1 * 0.9**t * f for t, f in enumerate(seen.factors)]
    assert module.updates.rates == pytest.approx(expected, rel=1e-4)
    assert len({round(f, 6) for f in seen.factors}) > 4
    assert ours.control.session.stats.decisions == len(seen.factors)


def rows_of(logger: CSVLogger) -> list[dict[str, str]]:
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(module: nn.Module) -> torch.Tensor:
    return flat(list(module.parameters()))


def test_a_fit_that_is_only_watched_is_bit_identical(tmp_path):
    """Dropout, logging and all; what was logged is not logged twice."""

    def fitted(*callbacks: Callback) -> tuple[torch.Tensor, list[dict]]:
        seed_everything(3, verbose=False)
        module = Module()
        logger = CSVLogger(tmp_path, name=str(len(callbacks)))
        trainer(tmp_path, *callbacks, logger=logger, log_every_n_steps=1).fit(module, loader())
        return weights(module), rows_of(logger)

    plain, logged = fitted()
    ours = CurvatureCallback(run="r", trust="watch", overhead=None, probe_interval=2)
    watched, logged_too = fitted(ours)
    assert torch.equal(plain, watched)
    assert ours.control.session.stats.decisions > 5
    assert [r["loss"] for r in logged if r["loss"]] == [r["loss"] for r in logged_too if r["loss"]]


def test_the_rate_that_was_used_is_logged_beside_the_monitors(tmp_path):
    """`dcao/lr` is what the update used, at its step; LearningRateMonitor shows the user's base."""
    module, logger = Module(), CSVLogger(tmp_path)
    ours = CurvatureCallback(run="r", **CONTROL)
    trainer(tmp_path, ours, LearningRateMonitor("step"), logger=logger, log_every_n_steps=1).fit(module, loader())
    rows = rows_of(logger)
    used = {int(r["step"]): float(r["dcao/lr"]) for r in rows if r["dcao/lr"]}
    assert [used[t] for t in range(16)] == pytest.approx(module.updates.rates, rel=1e-4)
    base = [float(r["lr-SGD"]) for r in rows if r["lr-SGD"]]
    assert base == pytest.approx([0.1 * 0.9**t for t in range(16)])
    assert sum(bool(r["dcao/rho"]) for r in rows) == 16


@pytest.mark.parametrize("kind", ["adamw", "dcao", "sgd"])
def test_a_fit_resumed_by_ckpt_path_goes_on_exactly(tmp_path, kind):
    """Weights and decisions bit for bit, from a checkpoint that Lightning wrote; under a schedule (sgd) too."""
    options = {} if kind == "dcao" else {"run": "r", "trust": "auto", "overhead": None, "probe_interval": 4}

    def fitted(*more: Callback, epochs: int, resume: str | None = None) -> tuple[Module, Attachment]:
        seed_everything(3, verbose=False)
        module, ours = Module(kind), CurvatureCallback(**options)
        module.dropout.p = 0.0
        trainer(tmp_path, ours, *more, epochs=epochs).fit(module, loader(), loader(), ckpt_path=resume)
        return module, ours.control

    saving = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=8, save_top_k=-1)
    whole, control = fitted(saving, epochs=3)
    resumed, control_too = fitted(epochs=3, resume=str(next((tmp_path / "saved").glob("*step=16.ckpt"))))
    assert torch.equal(weights(whole), weights(resumed))
    assert control.decision.lr == control_too.decision.lr
    assert control.steps == control_too.steps == 24
    assert control_too.session.attempt == control.session.attempt + 1


def test_dcao_is_evaluated_and_saved_at_x_without_a_word(tmp_path):
    """Validation sees the average; so does every checkpoint, weights-only ones too; training goes on from y."""
    module = Module("dcao")
    module.dropout.p = 0.0
    x = []

    class Look(Callback):
        """The average, computed from y and z by us, just before each validation."""

        def on_train_batch_end(self, trainer, pl_module, *_):
            optimizer = trainer.optimizers[0]
            assert optimizer.training
            x.append(flat([optimizer.average(p) for p in pl_module.parameters()]))

    savers = [
        ModelCheckpoint(
            tmp_path / name, filename="{step}", every_n_train_steps=n, save_top_k=-1, save_weights_only=n == 10
        )
        for name, n in (("whole", 5), ("weights", 10))
    ]
    fit = trainer(tmp_path, CurvatureCallback(), Look(), *savers)
    fit.fit(module, loader(), loader(8, 8))
    assert torch.equal(module.seen[-1], x[-1])
    assert torch.equal(weights(module), x[-1])
    assert not torch.equal(x[4], x[-1])
    for folder, step in (("whole", 5), ("weights", 10)):
        saved = torch.load(tmp_path / folder / f"step={step}.ckpt", weights_only=True)
        names = [name for name, _ in module.named_parameters()]
        assert torch.equal(flat([saved["state_dict"][name] for name in names]), x[step - 1])
    assert "save_checkpoint" not in fit.__dict__


def test_dcao_trains_in_a_fit_as_in_a_loop_of_ones_own(tmp_path):
    """The callback brings the batch, and nothing else."""
    module, twin = Module("dcao"), Module("dcao")
    for m in (module, twin):
        m.dropout.p = 0.0
    trainer(tmp_path, CurvatureCallback()).fit(module, loader())
    optimizer = twin.configure_optimizers()
    for _ in range(2):
        for batch in loader():
            optimizer.zero_grad()
            mse(twin, batch).backward()
            optimizer.step(batch=tuple(batch))
    optimizer.eval()
    assert optimizer.control.decision.ceiling is not None
    assert torch.equal(weights(module), weights(twin))


@pytest.mark.parametrize("where", ["_use", "log_applied", "state_dict", "finish", "log_to", "load_state_dict"])
@pytest.mark.parametrize("kind", ["sgd", "dcao"])
def test_an_exception_of_ours_stops_no_fit(tmp_path, monkeypatch, where, kind, caplog):
    """Said once; every step is taken, and of a user's optimizer each is what it would have been."""
    if kind == "dcao" and where in ("state_dict", "load_state_dict"):
        where = "measure_over"  # its state is its optimizer's, where a fault is told to whoever saves

    def broken(*_, **__):
        raise RuntimeError("of ours")

    monkeypatch.setattr(Attachment, where, broken)
    module, ours = Module(kind), CurvatureCallback(**({} if kind == "dcao" else {"run": "r", "trust": "watch"}))
    if where == "load_state_dict":
        ours.load_state_dict({"of": "another"})
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=2)
    module.dropout.p = 0.0
    fit = trainer(tmp_path, ours, saving, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    fit.fit(module, loader(), loader())
    assert fit.global_step == 16
    if kind == "sgd":
        assert module.updates.rates == pytest.approx([0.1 * 0.9**t for t in range(16)], rel=1e-4)


def test_a_controller_that_is_away_stops_no_fit(tmp_path):
    """The same decisions are made in-process."""
    ours = CurvatureCallback(run="r", url="http://127.0.0.1:9", **CONTROL)
    fit = trainer(tmp_path, ours)
    fit.fit(Module(), loader())
    assert fit.global_step == ours.control.session.stats.in_process == 16


def test_turned_off_it_is_the_fit_without(tmp_path, monkeypatch):
    """`DCAO_ENABLED=0`, also with a loss that would be refused."""
    monkeypatch.setenv("DCAO_ENABLED", "0")
    module = Module(manual=True)
    trainer(tmp_path, CurvatureCallback(run="r", **CONTROL)).fit(module, loader())
    assert module.updates.rates == pytest.approx([0.1 * 0.9**t for t in range(16)], rel=1e-4)
    assert not list(tmp_path.rglob("*.jsonl"))
    trainer(tmp_path, CurvatureCallback()).fit(module := Module("dcao"), loader())
    assert module.optimizers().steps == 16


class Two(Module):
    """Two optimizers, stepped by hand."""

    def configure_optimizers(self):
        halves = self.net[0], self.net[2]
        return [torch.optim.SGD(half.parameters(), lr=0.1) for half in halves]

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(mse(self, batch))
            optimizer.step()


def test_several_optimizers_take_a_callback_each(tmp_path):
    """Each with its loss; one alone is refused with what to write."""
    with pytest.raises(ValueError, match=r"CurvatureCallback\(loss=..., optimizer=1\)"):
        trainer(tmp_path, CurvatureCallback(mse)).fit(Two(manual=True), loader())
    both = [CurvatureCallback(mse, optimizer=i, run=f"r{i}", **CONTROL) for i in range(2)]
    trainer(tmp_path, *both).fit(Two(manual=True), loader())
    assert [ours.control.session.stats.decisions for ours in both] == [16, 16]
    assert both[0].control.spectrum.rho != both[1].control.spectrum.rho


def test_what_cannot_be_controlled_is_refused_with_the_fix(tmp_path):
    """Before a step is taken."""
    with pytest.raises(ValueError, match=r"probe_loss\(self, batch\)"):
        trainer(tmp_path, CurvatureCallback()).fit(Module(manual=True), loader())
    with pytest.raises(ValueError, match=r"DCAO\(model, loss, ...\)"):
        trainer(tmp_path, CurvatureCallback(run="r")).fit(Module("dcao"), loader())


@pytest.mark.parametrize("kind", ["sgd", "dcao"])
def test_two_ranks_hold_equal_weights(tmp_path, kind):
    """DDP over gloo, other batches on each rank, fifty decisions; one run, and the curvature of both."""
    worker = Path(__file__).with_name("lightning_rank.py")
    run_ranks(worker, kind, str(tmp_path))
    (one, decisions), (two, none) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert (decisions, none) == (50, None)
    assert torch.equal(one, two)
