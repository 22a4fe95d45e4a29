"""The bounds in pyproject.toml are ones that somebody tried."""

import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_requirement_has_a_lower_bound_that_can_be_installed_alone() -> None:
    """What `make test-versions` pins to; torch is left out, its own tests hold it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = runpy.run_path(str(ROOT / "scripts/versions.py"))["lower_bounds"](project)
    assert {"pydantic", "fastapi", "uvicorn", "redis", "httpx", "numpy", "typer", "pyarrow"} <= set(bounds)
    assert "torch" not in bounds
    # 0.15 fails on every --help with today's click, and none before 0.19 knows typing.Literal.
    assert tuple(map(int, bounds["typer"].split(".")[:2])) >= (0, 20)


def test_a_requirement_without_a_lower_bound_is_named() -> None:
    lower_bounds = runpy.run_path(str(ROOT / "scripts/versions.py"))["lower_bounds"]
    extras = {extra: [] for extra in ("server", "client", "torch", "parquet", "otel")}
    with pytest.raises(ValueError, match="got 'typer'"):
        lower_bounds({"dependencies": ["typer"], "optional-dependencies": extras})


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("which", ["lowest", "newest"])
def test_every_command_and_a_worker_work_with_the_versions_that_are_allowed(which: str, tmp_path: Path) -> None:
    """A real installation by pip; needs a package index."""
    command = [sys.executable, str(ROOT / "scripts/versions.py"), which, "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
