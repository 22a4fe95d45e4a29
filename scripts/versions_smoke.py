"""A worker that decides under a real controller, with whatever versions this interpreter has; exits 0 when it did.

Run by scripts/versions.py inside the environment that it made. Prints nothing but what went wrong.
"""

import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from dcao_client import Session, attach
from dcao_experiments.controller_process import running_controller
from dcao_proto import Hyperparameters, Observation, PolicyChoice, RunSpec


def session_under(url: str, folder: Path) -> None:
    """Ten decisions of the controller's own, none made in-process."""
    spec = RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1, momentum=0.9), policy=PolicyChoice(name="paper"))
    with Session(spec, run="smoke", url=url, journal_dir=folder, deadline=10, strict=True) as session:
        for step in range(0, 100, 10):
            session.decide(Observation(step=step, rho=3.0 + step / 50, gamma=1.0, loss=0.5))
        assert session.stats.in_process == 0


def training_under(url: str, folder: Path) -> None:
    """A probe of a small network, its values applied."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    dcao = attach(model, optimizer, loss, run="trained", url=url, journal_dir=folder, probe_interval=2)
    for _ in range(10):
        batch = torch.randn(16, 4), torch.randn(16, 1)
        dcao.step(batch)
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    dcao.finish()


def asked(url: str) -> None:
    """Every command that reads, and every format that a history has."""
    beside = Path(sys.executable).parent
    for words in ("runs", "show smoke", "export smoke", "policies", "replay smoke --policy constant"):
        command = [str(beside / "dcao"), *words.split()]
        environment = {**os.environ, "DCAO_URL": url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    for path in ("/", "/openapi.json", "/metrics", "/metrics/runs", "/readyz"):
        urllib.request.urlopen(url + path, timeout=10).read()
    for name in ("json", "ndjson", "csv", "parquet"):
        path = f"/v1/projects/default/runs/smoke/decisions?format={name}"
        assert urllib.request.urlopen(url + path, timeout=10).read()


def main() -> None:
    """All of it."""
    with tempfile.TemporaryDirectory() as name, running_controller(Path(name) / "data") as url:
        session_under(url, Path(name))
        training_under(url, Path(name))
        asked(url)


if __name__ == "__main__":
    main()
