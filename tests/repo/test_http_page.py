"""The page about plain HTTP is a session: every command runs, against `dcao serve`, and is answered as it says."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dcao_experiments.controller_process import free_port

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hooks" / "http.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"
DCAO = Path(sys.executable).with_name("dcao")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a `dcao serve` as the page asks for it, but on a port that is free."""
    port, folder = free_port(), tmp_path_factory.mktemp("served")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DCAO_")}
    command = [DCAO, "serve", "--port", str(port)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                if httpx.get(f"{url}/readyz", trust_env=False).is_success:
                    break
            except httpx.HTTPError:
                time.sleep(0.05)
        else:
            raise AssertionError((folder / "log").read_text())
        yield url
        process.send_signal(signal.SIGTERM)


def session(snippet: str) -> list[tuple[str, str]]:
    """Each command, with what the page says of its answer."""
    found: list[tuple[str, str]] = []
    for line in snippet.splitlines():
        if line.startswith("# → "):
            found[-1] = (found[-1][0], line.removeprefix("# → "))
        elif line.startswith(" "):
            found[-1] = (f"{found[-1][0]}\n{line}", "")
        else:
            found.append((line, ""))
    return found


@pytest.mark.parametrize("scale", ["user", "path"])
def test_every_command_runs_and_is_answered_as_written(scale, served, tmp_path):
    """Exit code 0 of a curl that fails on refusals; every `"name":value` after an arrow is in the answer before it."""
    (snippet,) = (text for text in SNIPPETS if f"runs/http-{scale}" in text)
    commands = session(snippet)
    script = "".join(f"{command}\nprintf '\\n\\036\\n'\n" for command, _ in commands).replace(ADDRESS, served)
    done = subprocess.run(["sh", "-e"], input=script, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = done.stdout.split("\036\n")
    told = 0
    for (command, promised), answer in zip(commands, answers, strict=False):
        if promised:
            told += 1
            expected = json.loads(f"{{{promised}}}")
            assert expected == {name: json.loads(answer)[name] for name in expected}, command
    assert told == 3
    run = httpx.get(f"{served}/v1/projects/default/runs/http-{scale}", trust_env=False).json()
    assert (run["status"], run["decisions"]) == ({"user": "finished", "path": "failed"}[scale], 3)


def test_no_snippet_is_long():
    """Twelve lines at most, the promises aside."""
    assert len(SNIPPETS) == 2
    for snippet in SNIPPETS:
        assert sum(not line.startswith("#") for line in snippet.splitlines()) <= 12
