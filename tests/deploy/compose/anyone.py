"""Our own images as a user that nobody foresaw, in the root group, as OpenShift runs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ask import Controller, get
from stack import docker, expect, image, inspect, log_lines, wait_for

NAME = "dcao-anyone-test"
USER = "123456:0"
PORT = 18082
PROJECT, RUN, STEPS = "demo", "anyone", 150
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
"""As docker-compose.yml and the Kubernetes manifests run them."""


@contextmanager
def _cleared() -> Iterator[None]:
    """A network for the containers; nothing of them left before and after."""

    def clear() -> None:
        docker("rm", "-f", "-v", f"{NAME}-controller", f"{NAME}-worker", f"{NAME}-bare", check=False)
        docker("volume", "rm", f"{NAME}-controller", f"{NAME}-worker", check=False)
        docker("network", "rm", NAME, check=False)

    clear()
    docker("network", "create", NAME)
    try:
        yield
    finally:
        clear()


def _run(kind: str, name: str, secret: Path, variable: str, *words: str) -> str:
    """Name of a container of that kind, started as `USER`; `variable` says where it finds its secret."""
    full = f"{NAME}-{name}"
    inside = f"/run/secrets/{secret.name}"
    mounted = ("-v", f"{secret}:{inside}:ro", "-e", f"{variable}={inside}")
    docker("run", "-d", "--name", full, "--network", NAME, "--user", USER, *mounted, *words, image(kind))
    return full


def _healthy(container: str) -> None:
    """Waits until the engine's own health check, which runs as the same user, says so."""
    wait_for(f"{container} to be healthy", lambda: inspect(container)["State"]["Health"]["Status"] == "healthy", 60)


def _owned(container: str, path: str) -> None:
    """The file is there, and the user's."""
    user = USER.split(":")[0]
    got = docker("exec", container, "stat", "-c", "%u", path)
    expect(got == user, f"expected {path} in {container} to be of user {user}, got {got}")


def _bare(secrets: Path) -> str:
    """The image alone, with a writable root and no volume."""
    bare = _run("controller", "bare", secrets / "api_keys", "DCAO_API_KEYS_FILE")
    _healthy(bare)
    _owned(bare, "/data/history.sqlite3")
    return f"the controller's image runs as {USER} with nothing but a file of keys, and writes its history"


def _controller(secrets: Path) -> Controller:
    """A healthy controller with a volume, published for the test and named for the worker."""
    published = ("--network-alias", "controller", "-p", f"127.0.0.1:{PORT}:8080")
    words = (*HARDENED, *published, "-v", f"{NAME}-controller:/data")
    _healthy(_run("controller", "controller", secrets / "api_keys", "DCAO_API_KEYS_FILE", *words))
    expect(get(f"http://127.0.0.1:{PORT}/healthz").status == 200, "expected /healthz to answer 200")
    return Controller(f"http://127.0.0.1:{PORT}", secrets)


def _worker(secrets: Path) -> str:
    """A worker with a volume for the journal of an outage, slow enough to be watched."""
    settings = {
        "DCAO_URL": "http://controller:8080",
        "DCAO_PROJECT": PROJECT,
        "DCAO_RUN": RUN,
        "DCAO_JOURNAL_DIR": "/data/journal",
        "DCAO_DEMO_STEPS": str(STEPS),
        "DCAO_DEMO_PAUSE": "0.1",
        "OMP_NUM_THREADS": "1",
    }
    given = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
    words = (*HARDENED, "-v", f"{NAME}-worker:/data", *given)
    return _run("worker", "worker", secrets / "api_key", "DCAO_API_KEY_FILE", *words)


def _kept(secrets: Path) -> str:
    """Read-only, with volumes: a worker writes its journal in an outage, and the history outlives a container."""
    worker = _worker(secrets)
    journal = f"/data/journal/{PROJECT}"
    wait_for("a journal while there is no controller", lambda: docker("exec", worker, "ls", journal), 60)
    _owned(worker, journal)
    first = _controller(secrets)
    state = wait_for("the worker to end", lambda: (s := inspect(worker)["State"])["Status"] == "exited" and s, 180)
    expect(state["ExitCode"] == 0, f"expected the worker to exit with 0, got {state}: {log_lines(worker)}")
    before = first.history(PROJECT, RUN)
    expect(len(before) > 2, f"expected more than 2 decisions, got {len(before)}")
    _owned(f"{NAME}-controller", "/data/history.sqlite3")
    docker("rm", "-f", f"{NAME}-controller")
    after = _controller(secrets).history(PROJECT, RUN)
    expect(after == before, f"expected the {len(before)} decisions again from a new container, got {len(after)}")
    return f"as {USER} with a read-only root a worker kept a journal, and {len(before)} decisions outlived a container"


def check(secrets: Path) -> Iterator[str]:
    """Each promise once it was checked."""
    with _cleared():
        yield _bare(secrets)
        yield _kept(secrets)
