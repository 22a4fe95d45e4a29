"""Does the package work with the lowest, and with the newest, versions that it allows? `make test-versions`.

Makes an environment of its own for each, installs the package there as a user would (pip, no pins of ours but the lower
bounds themselves), asks every command for its help, and has a worker decide under a real controller. torch stays the
one that constraints.txt pins: it is gigabytes, and the probe's own tests are what holds it.

    python scripts/versions.py lowest newest [--folder FOLDER]
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("server", "client", "torch", "parquet", "otel")
COMMANDS = {
    "dcao": (
        "",
        "serve",
        "runs",
        "show",
        "watch",
        "export",
        "replay",
        "sync",
        "policies",
        "probe",
        "keys",
        "gc",
        "keys create",
    ),
    "dcao-controller": ("", "serve", "keys", "keys create", "keys list", "keys revoke", "gc", "openapi", "settings"),
}


def lower_bounds(project: dict[str, object]) -> dict[str, str]:
    """Distribution → the lowest version that the base and the extras above allow; torch apart.

    Raises:
        ValueError: a requirement has no lower bound.
    """
    extras: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    wanted: list[str] = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]  # type: ignore[misc]
    bounds: dict[str, str] = {}
    for line in wanted:
        if line.startswith("dcao["):  # an extra of ours, which is here as well
            continue
        match = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([A-Za-z0-9.]+)", line)
        if match is None:
            raise ValueError(f"expected NAME>=VERSION in pyproject.toml, got {line!r}")
        bounds[match[1].lower()] = match[2]
    bounds.pop("torch", None)
    return bounds


def pinned_torch() -> str:
    """`torch==…` of constraints.txt."""
    return next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))


def install(folder: Path, which: str) -> Path:
    """An environment with the package; returns its folder of programs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = lower_bounds(project) if which == "lowest" else {}
    folder.mkdir(parents=True, exist_ok=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in bounds.items()) + pinned_torch() + "\n")
    venv.create(folder / "venv", with_pip=True, clear=True)
    programs = folder / "venv" / "bin"
    # Instead of, not besides, the constraints that a machine sets for every installation.
    environment = {**os.environ, "PIP_CONSTRAINT": str(constraints), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--prefer-binary"]
    subprocess.run([*pip, pinned_torch()], env=environment, check=True)
    subprocess.run([*pip, f"{ROOT}[{','.join(EXTRAS)}]"], env=environment, check=True)
    return programs


def check(programs: Path, folder: Path) -> list[str]:
    """What does not work; empty when everything does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DCAO_", "PYTHON"))}
    failures = []

    def run(*command: str) -> None:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        if done.returncode:
            failures.append(f"{' '.join(command)}: exit {done.returncode}\n{(done.stdout + done.stderr)[-1500:]}")

    for program, commands in COMMANDS.items():
        for words in commands:
            run(str(programs / program), *words.split(), "--help")
    run(str(programs / "python"), str(ROOT / "scripts" / "versions_smoke.py"))
    return failures


def main() -> int:
    """The exit code: 0 when every environment works."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("which", nargs="+", choices=["lowest", "newest"])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/dcao-versions"), help="of the environments")
    arguments = parser.parse_args()
    bad = 0
    for which in arguments.which:
        programs = install(arguments.folder / which, which)
        failures = check(programs, arguments.folder / which)
        print(f"{which}: {'works' if not failures else 'FAILS'}")
        print("\n".join(failures), end="\n" if failures else "")
        bad |= bool(failures)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
