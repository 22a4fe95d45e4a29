"""A controller on this machine for as long as a block runs."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


class ControllerNotStartedError(RuntimeError):
    """The controller's command is not installed or ended at once."""


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_controller(port: int, data: Path, *, redis_url: str | None = None) -> subprocess.Popen[bytes]:
    """Starts `dcao-controller serve` and waits until it is ready.

    Raises:
        ControllerNotStartedError: it is not installed, or it ended; the message has its last words.
    """
    beside = Path(sys.executable).with_name("dcao-controller")
    command = str(beside) if beside.exists() else shutil.which("dcao-controller")
    if command is None:
        raise ControllerNotStartedError("expected the command dcao-controller; pip install 'dcao[server]'")
    data.mkdir(parents=True, exist_ok=True)
    arguments = [command, "serve", "--port", str(port), "--data", str(data)]
    if redis_url is not None:
        arguments += ["--redis-url", redis_url]
    log = data / "controller.log"
    with log.open("ab") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT, env=os.environ)  # noqa: S603  (our own command)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1, trust_env=False).is_success:
                return process
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    process.kill()
    raise ControllerNotStartedError(f"the controller did not become ready:\n{log.read_text()[-2000:]}")


@contextmanager
def running_controller(data: Path, *, port: int | None = None) -> Iterator[str]:
    """The URL of a controller on the embedded store, stopped in the end."""
    port = port or free_port()
    process = start_controller(port, data)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
