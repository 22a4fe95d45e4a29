"""One rank of an Accelerate job; `test_accelerate.py` starts two of these."""

import os
import sys
from pathlib import Path

import torch

from tests.frameworks.regression import CONTROL
from tests.frameworks.test_accelerate import Loop


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    os.chdir(folder)
    loop = Loop(run="r", **CONTROL)
    weights = loop.run(7)
    session = loop.dcao.session
    decisions = None if session is None else session.stats.decisions
    torch.save((weights, decisions), folder / f"{loop.accelerator.process_index}.pt")
    loop.accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
