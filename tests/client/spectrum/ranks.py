"""What each process of a distributed test runs; started by ``test_distributed`` with torch.multiprocessing."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dcao_client.spectrum import MicroBatches, Probe, ProbeSettings, Ranks

EXACT = ProbeSettings(max_matvecs=60, rho_tol=1e-9, gamma_tol=1e-9, gamma_floor=0.0, timeout=60.0)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def net(dtype: torch.dtype = torch.float64, width: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 4)).to(
        dtype
    )


def data(n: int = 24, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 4, generator=generator, dtype=dtype), torch.randint(0, 3, (n,), generator=generator)


def start(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)


def save(folder: str, rank: int, **values: Any) -> None:
    torch.save(values, Path(folder) / f"rank{rank}.pt")


def replicated(rank: int, size: int, folder: str, ragged: bool) -> None:
    """DistributedDataParallel on parts of one batch, then ordinary training steps."""
    start(rank, size, folder)
    model = nn.parallel.DistributedDataParallel(net())
    x, y = data()
    cuts = [0, *(i * 24 // size + (2 if ragged else 0) for i in range(1, size)), 24]
    part = (x[cuts[rank] : cuts[rank + 1]], y[cuts[rank] : cuts[rank + 1]])
    counted = _count_reductions()
    s = Probe(model, loss, settings=EXACT).measure(part)
    reductions = counted[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss(model, part).backward()
        optimizer.step()
    weight = next(model.parameters()).detach().clone()
    save(
        folder, rank, rho=s.rho, gamma=s.gamma, matvecs=s.matvecs, examples=s.examples, reductions=reductions, w=weight
    )
    dist.destroy_process_group()


def one_without_examples(rank: int, size: int, folder: str, kind: str) -> None:
    """The last rank's part of a ragged batch is empty."""
    start(rank, size, folder)
    model = nn.parallel.DistributedDataParallel(net())
    x, y = data()
    part = (x[:0], y[:0]) if rank == size - 1 else (x, y)
    settings = ProbeSettings(timeout=5.0, matvec=kind, rho_tol=1e-3, gamma_tol=1e-2)  # type: ignore[arg-type]
    s = Probe(model, loss, settings=settings).measure(part)
    save(folder, rank, rho=s.rho, gamma=s.gamma, status=s.status, detail=s.detail, examples=s.examples)
    dist.destroy_process_group()


def _count_reductions() -> list[int]:
    calls, original = [0], dist.all_reduce

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return original(*args, **kwargs)

    dist.all_reduce = counting
    return calls


def sharded(rank: int, size: int, folder: str) -> None:
    """FSDP2 on parts of one batch; the training that follows must not notice."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    start(rank, size, folder)
    mesh = init_device_mesh("cpu", (size,))
    model = net(torch.float32, width=8)
    for layer in (model[0], model[2], model[4]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    x, y = data(24, torch.float32)
    part = (x[rank * 24 // size : (rank + 1) * 24 // size], y[rank * 24 // size : (rank + 1) * 24 // size])
    loss(model, part).backward()
    before = [(p.to_local().clone(), p.grad.to_local().clone()) for p in model.parameters()]
    probe = Probe(model, loss, collective=Ranks(dist.new_group(), 60.0))
    s = probe.measure(part)
    same = all(
        torch.equal(p.to_local(), w) and torch.equal(p.grad.to_local(), g)
        for p, (w, g) in zip(model.parameters(), before, strict=True)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.step()
    save(folder, rank, rho=s.rho, gamma=s.gamma, gamma_bound=s.gamma_bound, same=same, status=s.status, detail=s.detail)
    dist.destroy_process_group()


def one_without_examples_of_a_shard(rank: int, size: int, folder: str, missing: str) -> None:
    """The last rank of an FSDP2 model has an empty part, or a micro-batch less; then the run goes on."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    start(rank, size, folder)
    model = net(torch.float32, width=8)
    fully_shard(model, mesh=init_device_mesh("cpu", (size,)))
    x, y = data(24, torch.float32)
    part: Any = MicroBatches([(x, y), (x, y)])
    if rank == size - 1:
        part = (x[:0], y[:0]) if missing == "all" else MicroBatches([(x, y), (x[:0], y[:0])])
    before = [p.to_local().clone() for p in model.parameters()]
    probe = Probe(model, loss, collective=Ranks(dist.new_group(), 60.0))
    began = time.monotonic()
    s = probe.measure(part)
    seconds = time.monotonic() - began
    same = all(torch.equal(p.to_local(), w) for p, w in zip(model.parameters(), before, strict=True))
    again = probe.measure((x, y))
    loss(model, (x, y)).backward()
    save(folder, rank, status=s.status, detail=s.detail, seconds=seconds, same=same, again=again.status, rho=again.rho)
    dist.destroy_process_group()


def one_missing(rank: int, size: int, folder: str, how: str) -> None:
    """The last rank dies or stalls inside a probe; the others must say so in time and go on training without it."""
    start(rank, size, folder)
    model = nn.parallel.DistributedDataParallel(net())
    settings = ProbeSettings(timeout=3.0, matvec="double_backward")
    probe = Probe(model, loss, settings=settings)
    part = data(8)
    probe.measure(part)
    if rank == size - 1:
        if how == "dies":
            os._exit(0)
        time.sleep(8)
        save(folder, rank, status="late")
        os._exit(0)
    began = time.monotonic()
    s = probe.measure(part)
    again = probe.measure(part)
    save(folder, rank, status=s.status, detail=s.detail, seconds=time.monotonic() - began, again=again.status)
    os._exit(0)


def one_raises(rank: int, size: int, folder: str, kind: str) -> None:
    """From the second probe on the last rank's loss raises; every rank must say so in time, and train on together."""
    start(rank, size, folder)
    model = nn.parallel.DistributedDataParallel(net())
    broken = [False]

    def sometimes(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        if broken[0]:
            raise ValueError("no loss of this batch")
        return loss(model, batch)

    probe = Probe(model, sometimes, settings=ProbeSettings(timeout=3.0, matvec=kind))  # type: ignore[arg-type]
    part = data(8)
    first = probe.measure(part)
    broken[0] = rank == size - 1
    said, seconds = [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        began = time.monotonic()
        said.append(probe.measure(part))
        seconds.append(time.monotonic() - began)
        optimizer.zero_grad()
        loss(model, part).backward()
        optimizer.step()
    weight = next(model.parameters()).detach().clone()
    save(folder, rank, first=first.status, said=[(s.status, s.detail) for s in said], seconds=seconds, w=weight)
    os._exit(0)
