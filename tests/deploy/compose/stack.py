"""The stack under test: docker and Compose called as a person would call them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[3]
T = TypeVar("T")


class CheckError(AssertionError):
    """What was promised does not hold; the text says what was expected and what was got."""


def expect(holds: object, text: str) -> None:
    """Nothing when `holds`.

    Raises:
        CheckError: it does not.
    """
    if not holds:
        raise CheckError(text)


def wait_for(what: str, probe: Callable[[], T | None], seconds: float, every: float = 0.25) -> T:
    """The first value of `probe` that is true, asked again until `seconds` are over.

    Raises:
        CheckError: there was none; the last failure is in the text.
    """
    end = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < end:
        try:
            value = probe()
        except (OSError, CheckError, subprocess.CalledProcessError, ValueError) as error:
            last = error
        else:
            if value:
                return value
        time.sleep(every)
    raise CheckError(f"expected {what} within {seconds:.0f} s, got none; the last answer: {last!r}")


def docker(*words: str, check: bool = True) -> str:
    """What `docker …` prints."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise CheckError(f"expected `docker {' '.join(words)}` to succeed, got exit {done.returncode}: {done.stderr}")
    return done.stdout.strip()


def image(kind: str) -> str:
    """Name of one of this project's images as images.sh built it."""
    return f"{os.environ.get('DCAO_IMAGES', 'dcao')}/{kind}:{os.environ.get('DCAO_VERSION', '0.1.0')}"


def log_lines(container: str) -> list[str]:
    """What the container printed, on either stream."""
    done = subprocess.run(["docker", "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
    return done.stdout.decode(errors="replace").splitlines()


def inspect(container: str) -> dict[str, Any]:
    """What the engine knows of a container."""
    found: dict[str, Any] = json.loads(docker("inspect", container))[0]
    return found


class Stack:
    """The compose project: its name, its published ports and its services.

    Args:
        secrets: folder of the secrets to mount.
        project: name of the compose project.
    """

    proxy = "http://127.0.0.1:18080"
    prometheus = "http://127.0.0.1:19090"

    def __init__(self, secrets: Path, project: str = "dcao-compose-test") -> None:
        self.project = project
        self.secrets = secrets
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": project,
            "DCAO_SECRETS_FOLDER": str(secrets),
            "DCAO_PUBLISH": "127.0.0.1:18080",
            "DCAO_GRAFANA_PUBLISH": "127.0.0.1:13000",
            "DCAO_PROMETHEUS_PORT": "19090",
            # Some two minutes on two slow cores: as long as what is done to the stack meanwhile.
            "DCAO_DEMO_STEPS": "2400",
            "DCAO_DEMO_PAUSE": "0.03",
        }
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        # docker-compose 1.29 heeds `deploy` (replicas, limits) only when asked to.
        self._compose = ["docker", "compose"] if plugin else [shutil.which("docker-compose") or "", "--compatibility"]

    def compose(self, *words: str) -> str:
        """What Compose prints, with the demo profile on.

        Raises:
            CheckError: it failed.
        """
        command = [*self._compose, "--profile", "demo", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False, timeout=300
        )
        expect(done.returncode == 0, f"expected {' '.join(command)} to succeed, got:\n{done.stderr}")
        return done.stdout

    def containers(self, service: str) -> list[str]:
        """Ids of the service's containers, stopped ones included."""
        of_service = f"label=com.docker.compose.service={service}"
        words = ("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}", "--filter", of_service)
        return docker(*words).split()

    def healthy(self, service: str, count: int) -> bool:
        """Exactly `count` containers of the service run, and the engine's health check says they are well."""
        states = [inspect(container)["State"] for container in self.containers(service)]
        return [state["Health"]["Status"] for state in states if state["Running"]] == ["healthy"] * count

    def logs(self) -> str:
        """The last words of every container."""
        return self.compose("logs", "--no-color", "--tail", "40")
