"""One rank of an Ignite job; `test_ignite.py` starts two of these."""

import os
import sys
from pathlib import Path

import ignite.distributed as idist
import torch
from ignite.engine import create_supervised_trainer
from torch import nn

from dcao_client.hooks.ignite import attach
from tests.frameworks.regression import CONTROL, data, flat, mse, net


def train(local_rank: int, folder: Path) -> None:
    model = idist.auto_model(net())
    optimizer = idist.auto_optim(torch.optim.SGD(model.parameters(), lr=0.1))
    loader = idist.auto_dataloader(data(), batch_size=8)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss)
    with attach(trainer, model, optimizer, mse, run="r", **CONTROL) as control:
        trainer.run(loader, max_epochs=7)
    decisions = None if control.session is None else control.session.stats.decisions
    torch.save((flat(list(model.parameters())), decisions), folder / f"{idist.get_rank()}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.chdir(sys.argv[1])
    with idist.Parallel(backend="gloo") as parallel:
        parallel.run(train, Path(sys.argv[1]))
