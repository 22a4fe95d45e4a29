"""One rank of a two-rank job; `test_ranks.py` starts two of these."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from dcao_client import attach
from dcao_experiments.data import load_digits
from dcao_experiments.models import small_cnn
from dcao_experiments.training import batches, cross_entropy, train


def main(rank: int, ranks: int, port: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(small_cnn(8, norm=False, width=4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    control = attach(model, optimizer, cross_entropy, trust="auto", overhead=None, run="ranks", journal_dir=folder)
    used = [
        report.applied for report in train(model, optimizer, batches(load_digits(), 32, 30, seed=rank), dcao=control)
    ]
    torch.save((used, dict(model.module.state_dict()), control.session is None), folder / f"{rank}.pt")
    control.finish()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
