"""Trace, density, shares, the report and its command."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from dcao_client.spectrum import ProbeSettings, report
from dcao_client.spectrum.hutchinson1989 import trace
from dcao_client.spectrum.torch.shares import shares
from dcao_client.spectrum.ubaru2017slq import density
from dcao_client.spectrum.vectors import Space

SCRIPT = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])

def batch():
    g = torch.Generator().manual_seed(1)
    return torch.randn(32, 4, generator=g), torch.randint(0, 3, (32,), generator=g)
"""


def _matrix() -> torch.Tensor:
    torch.manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(300, 300, dtype=torch.float64))
    values = torch.cat([torch.linspace(-1, 1, 295), torch.tensor([5.0, 6.0, 8.0, 9.0, 20.0])]).double()
    return q @ torch.diag(values) @ q.T


def test_the_trace_is_within_its_error() -> None:
    a = _matrix()
    found = trace(lambda v: a @ v, torch.zeros(300).double(), 200, torch.Generator().manual_seed(0), Space(300))
    assert found.matvecs == 200
    assert found.error is not None
    assert abs(found.value - float(a.trace())) < 3 * found.error


def test_the_density_has_the_moments_of_the_spectrum() -> None:
    """The first moments of the quadrature are tr(A)/n and tr(A²)/n up to the sampling error."""
    a = _matrix()
    like, generator = torch.zeros(300).double(), torch.Generator().manual_seed(0)
    found = density(lambda v: a @ v, like, steps=25, samples=20, generator=generator, space=Space(300))
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.nodes @ found.weights == pytest.approx(float(a.trace()) / 300, abs=0.03)
    assert found.nodes**2 @ found.weights == pytest.approx(float((a @ a).trace()) / 300, rel=0.2)
    assert found.nodes.max() == pytest.approx(20.0, rel=1e-6)
    grid, height = found.curve()
    assert np.trapezoid(height, grid) == pytest.approx(1.0, rel=1e-2)


def test_shares_sum_to_one_and_find_the_layer() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    vector = torch.zeros(sum(p.numel() for p in model.parameters()))
    vector[6] = 3.0  # the first entry of the second layer's weight
    vector[0] = 4.0
    found = shares(vector, model)
    assert list(found.items())[:2] == [("0.weight", pytest.approx(0.64)), ("1.weight", pytest.approx(0.36))]
    assert sum(found.values()) == pytest.approx(1.0)


def test_a_report_says_where_the_model_stands(tmp_path: Path, kinked: nn.Module, loss: Any, batch: Any) -> None:
    settings = ProbeSettings(matvec="double_backward")
    found = report(kinked, loss, batch, lr=0.1, threshold=2.0, settings=settings, traces=3, with_density=True)
    assert found.spectrum.rho is not None
    assert found.edge_ratio == pytest.approx(0.1 * found.spectrum.rho / 2.0)
    assert sum(found.shares.values()) == pytest.approx(1.0, rel=1e-3)
    assert found.trace is not None
    assert found.density is not None
    assert found.density.nodes.max() == pytest.approx(found.spectrum.rho, rel=0.02)
    found.plot(tmp_path / "density.png")
    assert (tmp_path / "density.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(json.dumps(found.as_dict()))["parameters"] == sum(p.numel() for p in kinked.parameters())


def test_a_picture_needs_a_density(tmp_path: Path, kinked: nn.Module, loss: Any, batch: Any) -> None:
    with pytest.raises(ValueError, match="density=True"):
        report(kinked, loss, batch).plot(tmp_path / "x.png")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_training.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_training", raising=False)
    return tmp_path


def _call(*arguments: str) -> Any:
    import typer

    from dcao_client.cli.probe import probe

    app = typer.Typer()
    app.command()(probe)
    common = ["--model", "my_training:build", "--loss", "my_training:loss", "--batch", "my_training:batch"]
    return CliRunner().invoke(app, [*common, *arguments])


def test_the_command_prints_the_report_of_a_checkpoint(script: Path) -> None:
    torch.manual_seed(7)
    other = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    torch.save({"model": other.state_dict(), "step": 3}, script / "w.pt")
    plain = json.loads(_call("--json").output)
    loaded = json.loads(_call("--json", "--checkpoint", "w.pt", "--lr", "0.1", "--momentum", "0.9").output)
    assert plain["spectrum"]["rho"] != loaded["spectrum"]["rho"]
    assert loaded["edge_ratio"] == pytest.approx(0.1 * loaded["spectrum"]["rho"] / 3.8)
    shown = _call("--lr", "0.1", "--density", "picture.png", "--trace", "2")
    assert shown.exit_code == 0, shown.output
    assert "ρ (sharpness)" in shown.output
    assert "edge ratio" in shown.output
    assert (script / "picture.png").stat().st_size > 1000


def test_a_target_that_is_not_there_is_named(script: Path) -> None:
    failed = _call("--loss", "my_training:los")
    assert failed.exit_code == 2
    assert "my_training" in failed.output


def test_the_density_needs_a_finite_operator() -> None:
    poison: Callable[[torch.Tensor], torch.Tensor] = lambda v: v * float("nan")  # noqa: E731
    with pytest.raises(ValueError, match="finite operator"):
        density(poison, torch.zeros(4), steps=3, samples=2, generator=torch.Generator().manual_seed(0), space=Space(4))
