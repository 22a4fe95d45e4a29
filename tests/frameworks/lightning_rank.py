"""One rank of a Lightning job; `test_lightning.py` starts two of these."""

import os
import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from dcao_client.hooks.lightning import CurvatureCallback
from tests.frameworks.regression import CONTROL, flat, loader
from tests.frameworks.test_lightning import Module


def main(kind: str, folder: Path) -> None:
    torch.set_num_threads(1)
    os.chdir(folder)
    module = Module(kind)
    ours = CurvatureCallback() if kind == "dcao" else CurvatureCallback(run="r", **CONTROL)
    if kind == "dcao":
        module.interval = 1
    trainer = Trainer(
        default_root_dir=folder, max_epochs=13, max_steps=50, callbacks=[ours], accelerator="cpu", devices=2,
        strategy="ddp", logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, loader())
    session = ours.control.session
    decisions = None if session is None else session.stats.decisions
    torch.save((flat(list(module.parameters())), decisions), folder / f"{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
