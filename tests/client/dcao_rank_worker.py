"""One rank of a two-rank job trained by `DCAO(model, loss)`; `test_ranks.py` starts two of these."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from dcao_client import DCAO
from dcao_client.spectrum import Ranks
from dcao_experiments.data import load_digits
from dcao_experiments.models import small_cnn
from dcao_experiments.training import batches, cross_entropy

STEPS = 40


def whole(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights, gathered where they are sharded."""
    return {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value.detach().clone()
        for name, value in model.named_parameters()
    }


def refuse_sharded(ranks: int, out: Path) -> None:
    """Writes what form "muon" says of a sharded model."""
    sharded = small_cnn(8, norm=False, width=4)
    fully_shard(sharded, mesh=init_device_mesh("cpu", (ranks,)))
    try:
        DCAO(sharded, cross_entropy, form="muon", run="refused", journal_dir=out.parent)
    except ValueError as error:
        out.write_text(str(error))


def main(rank: int, ranks: int, port: int, folder: Path, kind: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    inner = small_cnn(8, norm=False, width=4)
    model: nn.Module = inner
    options: dict[str, Any] = {}
    if kind == "fsdp":
        fully_shard(inner, mesh=init_device_mesh("cpu", (ranks,)))
        options["collective"] = Ranks(dist.group.WORLD, timeout=60.0)
    else:
        model = nn.parallel.DistributedDataParallel(inner)
    if kind == "muon":
        options["form"] = "muon"
        refuse_sharded(ranks, folder / f"refused-{rank}.txt")
    optimizer = DCAO(model, cross_entropy, overhead=None, run="ranks", journal_dir=folder, **options)
    used, statuses = [], []
    for batch in batches(load_digits(), 32, STEPS, seed=rank):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step(batch=batch)
        used.append(optimizer.applied.lr)  # type: ignore[attr-defined]
        statuses.append(optimizer.control.spectrum.status)  # type: ignore[union-attr]
    trained = whole(inner)
    optimizer.eval()
    torch.save((used, statuses, trained, whole(inner)), folder / f"{rank}.pt")
    optimizer.control.finish()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
