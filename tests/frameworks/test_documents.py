"""What is written about the frameworks is executed where they are."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "hooks").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SNIPPETS = {
    f"{page.stem}-{number}": text
    for page in PAGES
    for number, text in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
    if "from dcao_client.hooks." in text
}


@pytest.mark.parametrize("enabled", ["1", "0"])
@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_runs_as_it_stands(name, enabled, tmp_path):
    """In a process of its own; its run is in the journal, or nowhere when it is turned off."""
    environment = {**os.environ, "DCAO_ENABLED": enabled}
    command = [sys.executable, "-c", SNIPPETS[name]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    run = re.search(r'run="([^"]+)"', SNIPPETS[name])[1]
    assert (tmp_path / ".dcao/journal/default" / f"{run}.jsonl").exists() == (enabled == "1")


@pytest.mark.parametrize("name", [name for name in SNIPPETS if name.startswith("README")])
def test_a_snippet_of_the_readme_is_short(name):
    """Twelve lines at most, blank ones aside."""
    assert len([line for line in SNIPPETS[name].splitlines() if line.strip()]) <= 12
