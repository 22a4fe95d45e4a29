"""What is written is executed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.components.controller import Controller

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def execute(command: list[str], url: str, cwd: Path) -> str:
    environment = {**os.environ, "DCAO_URL": url, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Those of training frameworks run where the frameworks are: tests/frameworks/test_documents.py.
SNIPPETS = [text for text in blocks("python") if "from dcao_client.hooks." not in text]


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_every_python_snippet_runs_under_a_real_controller(number, controller: Controller, tmp_path):
    """As it stands, in a process of its own; its run is in the controller's history."""
    snippet = SNIPPETS[number]
    out = execute([sys.executable, "-W", "error", "-c", snippet], controller.url, tmp_path)
    assert max(map(len, out.split())) < 128, "no state token is printed whole"
    run = re.search(r'run="([^"]+)"', snippet)
    assert (run[1] if run else "run-2") in execute([str(BIN / "dcao"), "runs"], controller.url, tmp_path)


def test_the_curl_snippet_gets_a_decision(controller: Controller, tmp_path):
    """With the test's own port in the place of 8000."""
    snippet = next(block for block in blocks("sh") if "curl" in block)
    out = execute(["sh", "-ec", snippet.replace("http://127.0.0.1:8000", controller.url)], controller.url, tmp_path)
    assert '"regime"' in out


def test_every_dcao_command_in_the_readme_exists(tmp_path):
    """`dcao X --help` works for each X that the README names."""
    for name in set(re.findall(r"\bdcao ([a-z]+)\b", README)):
        assert "Usage" in execute([str(BIN / "dcao"), name, "--help"], "", tmp_path)


def test_every_make_target_in_the_readme_exists():
    """`make demo`, `make test`."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z-]+)", "\n".join(blocks("sh")))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document):
    """Links between documents and to images are not dead."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


DOCTESTED = [
    "dcao_proto.optimizers",
    "dcao_client.session",
    "dcao_client.hooks.torch_loop",
    "dcao_client.hooks.optimizer",
]


@pytest.mark.parametrize("module", DOCTESTED)
def test_the_examples_in_docstrings_are_true(module, tmp_path):
    """Doctests of the modules that users read first."""
    program = f"""
import doctest, importlib
result = doctest.testmod(importlib.import_module("{module}"))
assert result.attempted and not result.failed
"""
    execute([sys.executable, "-c", program], "", tmp_path)
