"""Starts a controller, or something like it, as a process of its own, and knows its address from its log."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SMALL = ("-m", "tests.server.operation.small_server")
REPOSITORY = Path(__file__).parents[3]


class Server:
    """A running process, its log in a file."""

    def __init__(self, arguments: tuple[str, ...], log: Path, environ: dict[str, str]) -> None:
        self.log = log
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DCAO_")}
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *arguments], stderr=stream, cwd=REPOSITORY, env={**inherited, **environ}
            )

    def lines(self) -> list[dict[str, Any]]:
        """Complete log lines so far."""
        return [json.loads(line) for line in self.log.read_text().split("\n")[:-1] if line.startswith("{")]

    def wait_for(self, event: str, seconds: float = 60) -> dict[str, Any]:
        """The first log line with this event."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in self.lines():
                if line["event"] == event:
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"expected {event!r} in the log within {seconds} s, got:\n{self.log.read_text()}")

    @property
    def url(self) -> str:
        """`http://host:port`, once it serves."""
        return str(self.wait_for("serving")["url"])

    def connect(self) -> socket.socket:
        """A bare connection."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return socket.create_connection((host, int(port)), timeout=10)


@contextlib.contextmanager
def running(log: Path, *arguments: str, **environ: str) -> Iterator[Server]:
    """A server that is killed at the end if it still runs."""
    server = Server(arguments or SMALL, log, {"DCAO_PORT": "0", "DCAO_DATA": str(log.parent), **environ})
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(10)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def read_answer(connection: socket.socket) -> bytes:
    """One answer that says its length, from a connection that stays open."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(4096)
    return head + b"\r\n\r\n" + body
