"""`CurvatureCallback` in a real Trainer of Hugging Face's transformers."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from dcao_client import DCAO
from dcao_client.hooks.attachment import Attachment
from dcao_client.hooks.transformers import CurvatureCallback, CurvatureMixin
from tests.frameworks.regression import CONTROL, Updates, data, flat, net, run_ranks


class Model(nn.Module):
    """The small problem as the Trainer wants it: inputs by name, the loss in what it gives back."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.dropout, self.seen = net(), nn.Dropout(0.2), []

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        found = self.net(self.dropout(x))
        if not self.training:
            self.seen.append(weights(self))
        return {"logits": found} if labels is None else {"loss": nn.functional.mse_loss(found, labels), "logits": found}


def weights(model: nn.Module) -> torch.Tensor:
    return flat([p for p in model.parameters() if p.requires_grad])


def examples() -> list[dict[str, torch.Tensor]]:
    return [{"x": x, "labels": y} for x, y in data()]


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**batch)["loss"]


class Seen(TrainerCallback):
    """What each update used, and what was in force."""

    def __init__(self, ours: CurvatureCallback | None = None) -> None:
        self.ours, self.updates, self.factors, self.x = ours, Updates(), [], []

    def on_pre_optimizer_step(self, *_, model, **__):
        self.updates.before(model)
        if self.ours is not None and self.ours.control is not None and self.ours.control.decision is not None:
            self.factors.append(self.ours.control.decision.multipliers.lr)

    def on_optimizer_step(self, *_, model, **__):
        self.updates.after(model)


def arguments(folder: Path, **options) -> TrainingArguments:
    given = {
        "max_steps": 16, "per_device_train_batch_size": 8, "report_to": [], "use_cpu": True, "disable_tqdm": True,
        "save_strategy": "no", "max_grad_norm": 0.0, "logging_steps": 1, "dataloader_pin_memory": False,
        "lr_scheduler_type": "linear", "seed": 3,
    }  # fmt: skip
    return TrainingArguments(output_dir=str(folder), **{**given, **options})


def fitted(folder: Path, *callbacks, model=None, kind="sgd", trainer=Trainer, resume=None, more=None, **options):
    """A trainer after its training."""
    torch.manual_seed(0)
    model = model or Model()
    args = arguments(folder, **options)
    optimizer = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.1),
        "adamw": lambda: None,
        "dcao": lambda: DCAO(model, loss, run="r", overhead=None, probe_interval=4),
    }[kind]()
    made = trainer(
        model=model, args=args, train_dataset=examples(), eval_dataset=examples()[:8], optimizers=(optimizer, None),
        callbacks=list(callbacks), **(more or {}),
    )  # fmt: skip
    made.train(resume_from_checkpoint=resume)
    return made


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_update_uses_the_schedule_times_the_decided_factor(tmp_path, accumulate):
    """From weights and gradients: η = 0.1·(1−t/16)·f at every step, and this is what the Trainer logs."""
    ours = CurvatureCallback(run="r", **CONTROL)
    seen = Seen(ours)
    trainer = fitted(tmp_path, ours, seen, gradient_accumulation_steps=accumulate)
    assert len(seen.updates.rates) == len(seen.factors) == 16 == ours.control.session.stats.decisions
    expected = [0.1 * (1 - t / 16) * f for t, f in enumerate(seen.factors)]
    assert seen.updates.rates == pytest.approx(expected, rel=1e-3)
    assert len({round(f, 6) for f in seen.factors}) > 4
    logged = [row["learning_rate"] for row in trainer.state.log_history if "learning_rate" in row]
    assert logged == pytest.approx(seen.updates.rates, rel=1e-3)


def test_training_that_is_only_watched_is_bit_identical(tmp_path):
    """Every bit of the weights, dropout and shuffling included, and every logged loss."""
    plain = fitted(tmp_path)
    ours = CurvatureCallback(run="r", trust="watch", overhead=None, probe_interval=2)
    watched = fitted(tmp_path, ours)
    assert torch.equal(weights(plain.model), weights(watched.model))
    assert ours.control.session.stats.decisions > 5
    losses = [[row.get("loss") for row in t.state.log_history] for t in (plain, watched)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["adamw", "dcao"])
@pytest.mark.parametrize("at", [8, 11])
def test_training_resumed_from_a_checkpoint_goes_on_exactly(tmp_path, kind, at):
    """Weights and decisions bit for bit from what the Trainer wrote, in the middle of an epoch too."""
    options = {} if kind == "dcao" else {"run": "r", "trust": "auto", "overhead": None, "probe_interval": 4}
    given = {"kind": kind, "save_strategy": "steps", "save_steps": at, "max_steps": 24, "learning_rate": 0.05}
    given["lr_scheduler_type"] = "constant" if kind == "dcao" else "linear"
    ours, again = CurvatureCallback(**options), CurvatureCallback(**options)
    whole = fitted(tmp_path, ours, **given)
    resumed = fitted(tmp_path, again, resume=str(tmp_path / f"checkpoint-{at}"), **given)
    assert torch.equal(weights(whole.model), weights(resumed.model))
    assert ours.control.decision.lr == again.control.decision.lr
    assert ours.control.steps == again.control.steps == 24
    assert again.control.session.attempt == ours.control.session.attempt + 1


def test_dcao_is_evaluated_and_saved_at_x_without_a_word(tmp_path):
    """Evaluation sees the average, so does every checkpoint; training goes on from y, and ends at x."""
    from safetensors.torch import load_file

    class Look(TrainerCallback):
        def __init__(self) -> None:
            self.x = []

        def on_optimizer_step(self, *_, model, optimizer, **__):
            self.x.append(flat([optimizer.optimizer.average(p) for p in model.parameters()]))

    look = Look()
    trainer = fitted(
        tmp_path, CurvatureCallback(), look, kind="dcao", lr_scheduler_type="constant",
        eval_strategy="steps", eval_steps=4, save_strategy="steps", save_steps=5,
    )  # fmt: skip
    assert torch.equal(weights(trainer.model), look.x[-1])
    assert [torch.equal(seen, look.x[4 * n + 3]) for n, seen in enumerate(trainer.model.seen)] == [True] * 4
    for step in (5, 10, 15):
        saved = load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors")
        names = [name for name, _ in trainer.model.named_parameters()]
        assert torch.equal(flat([saved[name] for name in names]), look.x[step - 1])
    assert not torch.equal(look.x[4], look.x[-1])


def test_the_best_model_is_left_as_it_was_saved(tmp_path):
    """`load_best_model_at_end` after a DCAO: nothing of ours touches the weights that it put back."""
    from safetensors.torch import load_file

    trainer = fitted(
        tmp_path, CurvatureCallback(), kind="dcao", lr_scheduler_type="constant", load_best_model_at_end=True,
        eval_strategy="steps", eval_steps=4, save_strategy="steps", save_steps=4, metric_for_best_model="eval_loss",
        greater_is_better=True,
    )  # fmt: skip
    best = load_file(Path(trainer.state.best_model_checkpoint) / "model.safetensors")
    assert trainer.state.best_global_step < 16
    assert torch.equal(flat([best[name] for name, _ in trainer.model.named_parameters()]), weights(trainer.model))


def test_dcao_trains_in_a_trainer_as_in_a_loop_of_ones_own(tmp_path):
    """The callback brings the batch, and nothing else."""
    batches = []

    class Keep(Trainer):
        def training_step(self, model, inputs, *args, **kwargs):
            batches.append(dict(inputs))
            return super().training_step(model, inputs, *args, **kwargs)

    model, twin = Model(), Model()
    model.dropout.p = twin.dropout.p = 0.0
    trainer = fitted(
        tmp_path, CurvatureCallback(), model=model, kind="dcao", trainer=Keep, lr_scheduler_type="constant"
    )
    optimizer = DCAO(twin, loss, run="r", overhead=None, probe_interval=4)
    for batch in batches:
        optimizer.zero_grad()
        loss(twin, batch).backward()
        optimizer.step(batch=batch)
    optimizer.eval()
    assert optimizer.control.decision.ceiling is not None
    assert torch.equal(weights(trainer.model), weights(twin))
    logged = [row["learning_rate"] for row in trainer.state.log_history if "learning_rate" in row]
    assert logged[-1] == optimizer.applied.lr


class Twice(CurvatureMixin, Trainer):
    """A loss of its own, whose labels the model never sees."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        value = 2.0 * nn.functional.mse_loss(outputs["logits"], labels)
        return (value, outputs) if return_outputs else value


def test_the_mixin_measures_the_trainers_own_loss(tmp_path):
    """ρ of twice the loss is twice ρ."""
    model = Model()
    model.dropout.p = 0.0
    ours, twice = (CurvatureCallback(run=name, **{**CONTROL, "trust": "watch"}) for name in ("r", "twice"))
    fitted(tmp_path, ours, max_steps=1, model=model)
    again = Model()
    again.dropout.p = 0.0
    fitted(tmp_path, twice, max_steps=1, model=again, trainer=Twice)
    assert twice.control.spectrum.rho == pytest.approx(2 * ours.control.spectrum.rho, rel=1e-4)


def test_the_mixin_says_that_a_run_failed(tmp_path, monkeypatch):
    """And the exception is the user's."""

    class Broken(CurvatureMixin, Trainer):
        def training_step(self, *args, **kwargs):
            if self.state.global_step == 3:
                raise OSError("data gone")
            return super().training_step(*args, **kwargs)

    ours, told = CurvatureCallback(run="r", **CONTROL), []
    monkeypatch.setattr(Attachment, "fail", lambda self, reason=None: told.append(reason))
    with pytest.raises(OSError, match="data gone"):
        fitted(tmp_path, ours, trainer=Broken)
    assert told == ["OSError: data gone"]


def test_labels_that_are_smoothed_need_the_mixin(tmp_path):
    """Refused with what to write; with it the smoothed loss is measured."""
    given = {"max_steps": 4, "label_smoothing_factor": 0.1, "optim": "sgd", "learning_rate": 0.1}
    text = [{"input_ids": ids, "labels": ids} for ids in torch.randint(0, 32, (16, 12))]

    def trained(trainer: type[Trainer], ours: CurvatureCallback) -> None:
        trainer(model=language_model(), args=arguments(tmp_path, **given), train_dataset=text, callbacks=[ours]).train()

    class Mine(CurvatureMixin, Trainer):
        pass

    with pytest.raises(ValueError, match=r"CurvatureMixin, Trainer"):
        trained(Trainer, CurvatureCallback(run="r"))
    ours = CurvatureCallback(run="r", **CONTROL)
    trained(Mine, ours)
    assert ours.control.spectrum.status == "ok"


def language_model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=2, n_head=2, attn_implementation="eager")
    return GPT2LMHeadModel(config)


def test_of_a_lora_model_only_the_adapters_are_measured_and_moved(tmp_path):
    """PEFT over a GPT-2 from its configuration: frozen weights keep every bit, vectors have the adapters' size."""
    model = get_peft_model(language_model(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    text = [{"input_ids": ids, "labels": ids} for ids in torch.randint(0, 32, (32, 12))]
    ours = CurvatureCallback(run="r", trust="auto", overhead=None, probe_interval=2)
    given = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8}
    Trainer(model=model, args=arguments(tmp_path, **given), train_dataset=text, callbacks=[ours]).train()
    assert ours.control.spectrum.status == "ok"
    adapters = [p for p in model.parameters() if p.requires_grad]
    assert ours.control.probe.state_dict()["warm"][0].numel() == sum(p.numel() for p in adapters)
    assert all(torch.equal(frozen[name], p) for name, p in model.named_parameters() if name in frozen)
    assert any(p.abs().sum() > 0 for name, p in model.named_parameters() if "lora_B" in name)


def test_curves_are_in_the_trainers_log(tmp_path):
    """`log_to(trainer)`: ρ at its step, beside what the Trainer itself logs."""
    ours = CurvatureCallback(run="r", **CONTROL)
    trainer = Trainer(model=Model(), args=arguments(tmp_path, optim="sgd"), train_dataset=examples(), callbacks=[ours])
    ours.log_to(trainer).log_to(lambda metrics, step: said.append((step, metrics)))
    said = []
    trainer.train()
    rows = [(row["step"], row["dcao/rho"]) for row in trainer.state.log_history if "dcao/rho" in row]
    assert rows == [(step, metrics["dcao/rho"]) for step, metrics in said if "dcao/rho" in metrics]
    assert [step for step, _ in rows] == list(range(16))
    assert sum("loss" in row for row in trainer.state.log_history) == 16  # the Trainer's own


@pytest.mark.parametrize("where", ["_use", "log_applied", "state_dict", "finish", "log_to", "load_state_dict"])
@pytest.mark.parametrize("kind", ["sgd", "dcao"])
def test_an_exception_of_ours_stops_no_training(tmp_path, monkeypatch, where, kind, caplog):
    """Said once; every step is taken, and of a user's optimizer each is what it would have been."""
    if kind == "dcao" and where in ("state_dict", "load_state_dict"):
        where = "measure_over"  # its state is its optimizer's, where a fault is told to whoever saves
    given = {"save_strategy": "steps", "save_steps": 8, "kind": kind, "eval_strategy": "steps", "eval_steps": 4}
    given["lr_scheduler_type"] = "constant" if kind == "dcao" else "linear"
    options = {} if kind == "dcao" else {"run": "r", "trust": "watch"}
    if where == "load_state_dict":
        fitted(tmp_path, CurvatureCallback(**options), **given)

    def broken(*_, **__):
        raise RuntimeError("of ours")

    monkeypatch.setattr(Attachment, where, broken)
    seen, resume = Seen(), str(tmp_path / "checkpoint-8") if where == "load_state_dict" else None
    watched = [seen] if kind == "sgd" else []
    trainer = fitted(tmp_path, CurvatureCallback(**options), *watched, resume=resume, **given)
    assert trainer.state.global_step == 16
    if kind == "sgd":
        first = 8 if resume else 0
        assert seen.updates.rates == pytest.approx([0.1 * (1 - t / 16) for t in range(first, 16)], rel=1e-4)


def test_a_controller_that_is_away_stops_no_training(tmp_path):
    """The same decisions are made in-process."""
    ours = CurvatureCallback(run="r", url="http://127.0.0.1:9", **CONTROL)
    trainer = fitted(tmp_path, ours)
    assert trainer.state.global_step == ours.control.session.stats.in_process == 16


def test_turned_off_it_is_the_training_without(tmp_path, monkeypatch):
    """`DCAO_ENABLED=0`."""
    monkeypatch.setenv("DCAO_ENABLED", "0")
    seen = Seen()
    fitted(tmp_path, CurvatureCallback(run="r", **CONTROL), seen)
    assert seen.updates.rates == pytest.approx([0.1 * (1 - t / 16) for t in range(16)], rel=1e-4)
    assert not list(tmp_path.rglob("*.jsonl"))
    trainer = fitted(tmp_path, CurvatureCallback(), kind="dcao", lr_scheduler_type="constant")
    assert trainer.optimizer.optimizer.steps == 16


def test_what_cannot_be_controlled_is_refused_with_the_fix(tmp_path):
    """Before a step is taken."""
    with pytest.raises(ValueError, match=r"lr_scheduler_type='constant'"):
        fitted(tmp_path, CurvatureCallback(), kind="dcao")
    with pytest.raises(ValueError, match=r"DCAO\(model, loss, ...\)"):
        fitted(tmp_path, CurvatureCallback(run="r"), kind="dcao", lr_scheduler_type="constant")


@pytest.mark.parametrize("kind", ["sgd", "dcao"])
def test_two_ranks_hold_equal_weights(tmp_path, kind):
    """DDP over gloo, other batches on each rank, fifty decisions; one run, and the curvature of both."""
    run_ranks(Path(__file__).with_name("transformers_rank.py"), kind, str(tmp_path))
    (one, decisions), (two, none) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert (decisions, none) == (50, None)
    assert torch.equal(one, two)
