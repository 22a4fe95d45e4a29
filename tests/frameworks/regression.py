"""One small problem for every framework, and what an update really used."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

CONTROL = {
    "policy": "paper",
    "policy_params": {"rho_ref": 3.0, "gamma_ref": 1.0},
    "overhead": None,
    "probe_interval": 1,
}


def net(seed: int = 0) -> nn.Module:
    """A small network, the same for the same seed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def data(examples: int = 64) -> TensorDataset:
    """Inputs and targets."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(examples, 4, generator=generator)
    return TensorDataset(x, x.sum(1, keepdim=True).sin())


def loader(size: int = 8, examples: int = 64) -> DataLoader:
    """In the same order every epoch."""
    return DataLoader(data(examples), batch_size=size)


def mse(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean loss of a batch."""
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def run_ranks(worker: Path, *arguments: str) -> None:
    """Two processes of one job, started as torchrun does."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(worker), *arguments], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def flat(tensors: list[Tensor]) -> Tensor:
    """One vector in double precision."""
    return torch.cat([t.detach().double().flatten() for t in tensors])


class Updates:
    """What each update of an SGD without momentum used, from weights and gradients alone: η = ⟨θ − θ′, g⟩ / ⟨g, g⟩."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self._before: tuple[Tensor, Tensor] | None = None

    def before(self, model: nn.Module) -> None:
        """Gradients are complete, weights not moved yet."""
        parameters = list(model.parameters())
        self._before = flat(parameters), flat([p.grad for p in parameters])

    def after(self, model: nn.Module) -> None:
        """The weights have moved; does nothing if there was no update."""
        if self._before is None:
            return
        theta, g = self._before
        moved = theta - flat(list(model.parameters()))
        rate = float(moved @ g / (g @ g))
        torch.testing.assert_close(moved, rate * g, rtol=1e-2, atol=1e-7)  # along the gradient and nowhere else
        self.rates.append(rate)
        self._before = None
