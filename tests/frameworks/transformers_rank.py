"""One rank of a Trainer's job; `test_transformers.py` starts two of these."""

import os
import sys
from pathlib import Path

import torch

from dcao_client import DCAO
from dcao_client.hooks.transformers import CurvatureCallback
from tests.frameworks.regression import CONTROL
from tests.frameworks.test_transformers import Model, Trainer, arguments, examples, loss, weights


def main(kind: str, folder: Path) -> None:
    torch.set_num_threads(1)
    os.chdir(folder)
    model = Model()
    args = arguments(
        folder, max_steps=50, per_device_train_batch_size=4, ddp_backend="gloo",
        lr_scheduler_type="constant" if kind == "dcao" else "linear",
    )  # fmt: skip
    if kind == "dcao":
        ours, optimizer = CurvatureCallback(), DCAO(model, loss, run="r", overhead=None, probe_interval=1)
    else:
        ours = CurvatureCallback(run="r", **CONTROL)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model=model, args=args, train_dataset=examples(), optimizers=(optimizer, None), callbacks=[ours])
    trainer.train()
    session = ours.control.session
    decisions = None if session is None else session.stats.decisions
    torch.save((weights(model), decisions), folder / f"{args.process_index}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
