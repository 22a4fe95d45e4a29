"""Two processes of one job: rank 0 talks, both apply the same values at the same step."""

import subprocess
import sys
from pathlib import Path

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
