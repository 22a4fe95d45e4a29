"""A virtual environment with a wheel of ours and exactly the packages that its extras bring, linked from this one."""

import os
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


class CleanEnvironment:
    """One environment.

    Args:
        folder: where it is made.
        wheel: ours.
        extras: of the wheel.
    """

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.bin = folder / "bin"
        site = next((folder / "lib").glob("python*")) / "site-packages"
        for package in brought(wheel, extras):
            _link(package, site)
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "-q"]
        subprocess.run([*pip, "--no-deps", "--no-index", "--no-compile", str(wheel)], check=True, capture_output=True)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of it, with nothing of this environment in sight."""
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]], capture_output=True, text=True, timeout=120,
            env=self.environment(**environment),
        )  # fmt: skip

    def environment(self, **more: str) -> dict[str, str]:
        """Its environment variables."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "PATH": f"{self.bin}:/usr/bin:/bin", "COLUMNS": "100", **more}


def brought(wheel: Path, extras: tuple[str, ...]) -> list[Distribution]:
    """What pip would install beside the wheel, as far as this environment has it; it has `dcao[all]`."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        ours = message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = [("dcao", extra) for extra in ("", *extras)]
    while waiting:
        package, extra = waiting.pop()
        if (package, extra) in done:
            continue
        done.add((package, extra))
        if package != "dcao":
            found.setdefault(package, distribution(package))
        lines = ours if package == "dcao" else found[package].requires or []
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                name = canonicalize_name(requirement.name)
                waiting += [(name, inner) for inner in ("", *requirement.extras)]
    return list(found.values())


def _link(package: Distribution, site: Path) -> None:
    for top in {path.parts[0] for path in package.files or () if path.parts[0] not in ("..", "__pycache__")}:
        source, target = Path(str(package.locate_file(top))), site / top
        if source.exists() and not target.exists():
            target.symlink_to(source)
