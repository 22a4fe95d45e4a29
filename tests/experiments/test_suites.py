"""`dcao experiment` as a person runs it: every method, killed and gone on with, and what the report says."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcao_experiments.methods import METHODS

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
DCAO = [sys.executable, "-m", "dcao_client.cli.main", "experiment"]


def dcao(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    command = [*DCAO, *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, **options)


@pytest.mark.timeout(900)
def test_every_method_runs_and_the_report_says_so(tmp_path: Path) -> None:
    ran = dcao("run", "--suite", "smoke", "--jobs", 2, "--out", tmp_path)
    assert ran.returncode == 0, ran.stderr
    records = [json.loads(line) for line in (tmp_path / "smoke.jsonl").read_text().splitlines()]
    assert {r["method"] for r in records} == set(METHODS)
    assert [r for r in records if "error" in r] == []
    wrote = dcao("report", "--suite", "smoke", "--out", tmp_path)
    assert wrote.returncode == 0, wrote.stderr
    page, plain = (tmp_path / "smoke.html").read_text(), (tmp_path / "smoke.md").read_text()
    for name in METHODS:
        assert f"<code>{name}</code>" in page
        assert f"`{name}`" in plain
    assert not re.search(r"""(src|href)=["']https?:""", page), "it is read without a network"
    for picture in re.findall(r"\]\(([^)]+\.svg)\)", plain):
        assert (tmp_path / picture).read_text().startswith("<svg")


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.timeout(600)
def test_a_killed_grid_leaves_no_worker_and_runs_nothing_twice(tmp_path: Path) -> None:
    out = tmp_path / "smoke.jsonl"
    wanted = "sgd,adamw,adamw-linear,momo,dowg,dog"
    arguments = ["run", "--suite", "smoke", "--methods", wanted, "--jobs", "1", "--out", str(tmp_path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen([*DCAO, *arguments], env=ENVIRONMENT, **quiet)
    while not (out.exists() and out.read_text().count("\n") >= 2):
        assert running.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert children
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = out.read_text().splitlines()
    deadline = time.monotonic() + 20
    while any(alive(int(child)) for child in children):
        assert time.monotonic() < deadline, "a worker outlived the grid"
        time.sleep(0.05)
    assert dcao(*arguments).returncode == 0
    after = out.read_text().splitlines()
    assert after[: len(before)] == before
    assert sorted(json.loads(line)["method"] for line in after) == sorted(wanted.split(","))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--suite", "nope"), "expected suites of smoke"),
        (("run", "--workloads", "cifar"), "expected workloads of mlp"),
        (("run", "--methods", "sgdd"), "expected methods of dcao"),
        (("run", "--seeds", "1;2"), "with commas between them"),
        (("report", "--suite", "small", "--out", "/nowhere/at/all"), "`dcao experiment run --suite small` makes them"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(arguments: tuple[str, ...], says: str) -> None:
    refused = dcao(*arguments)
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_list_names_everything() -> None:
    listed = dcao("list").stdout
    for name in (*METHODS, "smoke", "small", "law", "resnet"):
        assert f"  {name} " in listed
