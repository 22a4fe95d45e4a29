"""The same training in every framework's own loop. Each is `loop(job, options)`; without options we are not there."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

Options = dict[str, Any] | None


def mse(model: nn.Module, batch: Any) -> Tensor:
    """The mean loss of a batch."""
    return nn.functional.mse_loss(model(batch[0]), batch[1])


class Net(nn.Sequential):
    """0.4 M parameters; takes its batch by name too, and then gives its loss, as a Trainer wants it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(256, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 1))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        found = super().forward(x)
        return found if labels is None else {"loss": nn.functional.mse_loss(found, labels), "logits": found}


@dataclass
class Job:
    """One training: model, optimizer, data, and the time of every update, by the wall and of this process."""

    steps: int
    folder: Path
    batch: int = 64
    times: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.optimizer.register_step_post_hook(lambda *_: self.times.append((perf_counter(), process_time())))
        x = torch.randn(self.steps * self.batch, 256, generator=torch.Generator().manual_seed(1))
        self.data = TensorDataset(x, x[:, :8].sum(1, keepdim=True).sin())
        self.loader = DataLoader(self.data, batch_size=self.batch)


def plain(job: Job, options: Options) -> None:
    """A torch loop."""
    from dcao_client import attach

    dcao = None if options is None else attach(job.model, job.optimizer, mse, **options)
    for batch in job.loader:
        if dcao is not None:
            dcao.step(batch)
        job.optimizer.zero_grad()
        mse(job.model, batch).backward()
        job.optimizer.step()


def lightning(job: Job, options: Options) -> None:
    """Lightning's Trainer."""
    from lightning.pytorch import LightningModule, Trainer

    from dcao_client.hooks.lightning import CurvatureCallback

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = job.model

        def configure_optimizers(self) -> Any:
            return job.optimizer

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return mse(self.net, batch)

    trainer = Trainer(
        default_root_dir=job.folder, max_epochs=1, accelerator="cpu", devices=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[] if options is None else [CurvatureCallback(**options)],
    )  # fmt: skip
    trainer.fit(Module(), job.loader)


def transformers(job: Job, options: Options) -> None:
    """Hugging Face's Trainer."""
    from transformers import Trainer, TrainingArguments

    from dcao_client.hooks.transformers import CurvatureCallback

    args = TrainingArguments(
        str(job.folder), max_steps=job.steps, per_device_train_batch_size=job.batch, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no", logging_strategy="no", dataloader_pin_memory=False,
        lr_scheduler_type="constant",
    )  # fmt: skip
    examples = [{"x": x, "labels": y} for x, y in job.data]
    ours = [] if options is None else [CurvatureCallback(**options)]
    Trainer(
        model=job.model, args=args, train_dataset=examples, optimizers=(job.optimizer, None), callbacks=ours
    ).train()


def accelerate(job: Job, options: Options) -> None:
    """Accelerate's loop."""
    from accelerate import Accelerator

    from dcao_client.hooks.accelerate import attach

    accelerator = Accelerator(cpu=True)
    model, optimizer, loader = accelerator.prepare(job.model, job.optimizer, job.loader)
    dcao = None if options is None else attach(accelerator, model, optimizer, mse, **options)
    for batch in loader:
        if dcao is not None:
            dcao.step(batch)
        accelerator.backward(mse(model, batch))
        optimizer.step()
        optimizer.zero_grad()


def ignite(job: Job, options: Options) -> None:
    """Ignite's supervised trainer."""
    from ignite.engine import create_supervised_trainer

    from dcao_client.hooks.ignite import attach

    trainer = create_supervised_trainer(job.model, job.optimizer, nn.functional.mse_loss)
    if options is not None:
        attach(trainer, job.model, job.optimizer, mse, **options)
    trainer.run(job.loader, max_epochs=1)


def skorch(job: Job, options: Options) -> None:
    """skorch's fit."""
    from skorch import NeuralNetRegressor

    from dcao_client.hooks.skorch import CurvatureCallback

    class Given(NeuralNetRegressor):
        def initialize_optimizer(self, *_: Any, **__: Any) -> Any:
            self.optimizer_ = job.optimizer
            return self

    ours = [] if options is None else [CurvatureCallback(**options)]
    net = Given(job.model, max_epochs=1, batch_size=job.batch, verbose=0, train_split=None, callbacks=ours)
    net.fit(*job.data.tensors)


def fastai(job: Job, options: Options) -> None:
    """fastai's Learner."""
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    from dcao_client.hooks.fastai import CurvatureCallback

    given = lambda *_, **__: OptimWrapper(opt=job.optimizer)  # noqa: E731
    ours = [] if options is None else [CurvatureCallback(**options)]
    learn = Learner(DataLoaders(job.loader, []), job.model, nn.functional.mse_loss, opt_func=given, cbs=ours)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, lr=1e-3)


LOOPS: dict[str, Callable[[Job, Options], None]] = {
    "torch": plain, "lightning": lightning, "transformers": transformers, "accelerate": accelerate, "ignite": ignite,
    "skorch": skorch, "fastai": fastai,
}  # fmt: skip


def quiet() -> None:
    """The frameworks have much to say."""
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "transformers", "ignite"):
        logging.getLogger(name).setLevel(logging.ERROR)
