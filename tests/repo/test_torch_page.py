"""docs/hooks/torch.md: every snippet is short and runs, those for several ranks on two of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dcao_client import DCAO
from tests.components.controller import Controller

PAGE = (Path(__file__).parents[2] / "docs" / "hooks" / "torch.md").read_text(encoding="utf-8")
SETUP, *SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RUN = re.compile(r'run="([^"]+)"')


def ranks(snippet: str) -> int:
    return 2 if "init_process_group" in snippet else 1


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: RUN.search(text)[1])
def test_it_runs_under_a_real_controller(snippet: str, controller: Controller, tmp_path: Path) -> None:
    """As it stands, behind the one that all go on from; its runs are in the controller's history."""
    assert len(snippet.splitlines()) <= 12
    program = tmp_path / "train.py"
    program.write_text(SETUP + snippet, encoding="utf-8")
    command = [sys.executable, "-W", "error"]
    if ranks(snippet) > 1:
        command += ["-W", "default", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "DCAO_URL": controller.url, "DCAO_DEADLINE": "10", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(program)], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DCAO:" not in done.stderr
    listed = subprocess.run(
        [Path(sys.executable).with_name("dcao"), "runs", "--limit", "100", "--json"],
        capture_output=True, text=True, env=environment, timeout=60,
    ).stdout  # fmt: skip
    for run in RUN.findall(snippet):
        assert run in listed


def test_torch_refuses_to_cycle_a_momentum_in_these_words(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = DCAO(model, lambda model, batch: model(batch).mean(), journal_dir=tmp_path)
    with pytest.raises(ValueError, match="cycle_momentum") as refused:
        torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=3)
    assert f"*{refused.value}*" in " ".join(PAGE.split())
