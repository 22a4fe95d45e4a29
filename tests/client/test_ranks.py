"""Two processes of one job: rank 0 talks, both apply the same values at the same step."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from dcao_experiments.controller_process import free_port

RANKS = 2


def test_every_rank_applies_the_decision_of_rank_0(tmp_path):
    """Different batches on each rank; the same η, β, λ at every step, so the weights stay the same too."""
    script, port = Path(__file__).with_name("rank_worker.py"), str(free_port())
    processes = [
        subprocess.Popen([sys.executable, script, str(rank), str(RANKS), port, str(tmp_path)]) for rank in range(RANKS)
    ]
    assert [process.wait(120) for process in processes] == [0] * RANKS
    (used, weights, silent), (used1, weights1, silent1) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(RANKS)
    )
    assert (silent, silent1) == (False, True)
    assert used == used1
    assert len(set(used)) > 2
    for name in weights:
        torch.testing.assert_close(weights[name], weights1[name], rtol=0, atol=0)


def _trained(folder: Path, kind: str) -> list[Any]:
    folder.mkdir()
    script, port = Path(__file__).with_name("dcao_rank_worker.py"), str(free_port())
    processes = [
        subprocess.Popen([sys.executable, script, str(rank), str(RANKS), port, str(folder), kind])
        for rank in range(RANKS)
    ]
    assert [process.wait(200) for process in processes] == [0] * RANKS
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


def test_dcao_trains_alike_on_every_rank_replicated_and_sharded(tmp_path):
    """Different batches on each rank: equal rates and weights, and a sharded model is where a replicated one is.

    The sharded one is measured by differences, the replicated one exactly: their rates agree to what that leaves.
    """
    found = {kind: _trained(tmp_path / kind, kind) for kind in ("ddp", "fsdp")}
    for (used, statuses, *points), (used1, statuses1, *points1) in found.values():
        assert used == used1
        assert set(statuses) == set(statuses1) == {"ok"}
        for weights, weights1 in zip(points, points1, strict=True):
            for name in weights:
                torch.testing.assert_close(weights[name], weights1[name], rtol=0, atol=0)
    replicated, sharded = found["ddp"][0], found["fsdp"][0]
    rates, sharded_rates = torch.tensor(replicated[0]), torch.tensor(sharded[0])
    torch.testing.assert_close(rates[:10], sharded_rates[:10], rtol=0.05, atol=0)
    torch.testing.assert_close(rates, sharded_rates, rtol=0.3, atol=0)
    assert any(not torch.equal(replicated[2][name], replicated[3][name]) for name in replicated[2])  # x is not y


def test_muon_trains_alike_on_every_rank_and_refuses_a_sharded_model(tmp_path):
    (used, statuses, *points), (used1, _, *points1) = _trained(tmp_path / "muon", "muon")
    assert used == used1
    assert set(statuses) == {"ok"}
    for weights, weights1 in zip(points, points1, strict=True):
        for name in weights:
            torch.testing.assert_close(weights[name], weights1[name], rtol=0, atol=0)
    for rank in range(RANKS):
        told = (tmp_path / "muon" / f"refused-{rank}.txt").read_text()
        assert told.startswith("expected whole matrices for form 'muon'")
        assert "form='adam'" in told
