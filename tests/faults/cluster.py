"""A Redis and two controllers as real processes, with bad links between everything, and the means to hurt them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.link import Link, Links

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 30
REPLICAS = 2


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Process:
    """A command that can be killed, paused and started again."""

    name: str
    command: list[str]
    log: Path
    environ: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    _starting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def up(self) -> bool:
        """Whether it runs, paused or not."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts it unless it runs."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DCAO_")}
        with self._starting, self.log.open("ab") as log:
            if self.up:
                return
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=REPOSITORY, env={**inherited, **self.environ}
            )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to it, if it runs."""
        if self.process is not None and self.up:
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)


class Cluster:
    """Writers talk to `front`, each replica to Redis over a link of its own in `backs`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.links = Links()
        redis_port = free_port()
        ports = [free_port() for _ in range(REPLICAS)]
        self.redis_port = redis_port
        self.appendonly = folder / "redis" / "appendonlydir"
        (folder / "redis").mkdir(parents=True)
        self.redis = Process("redis", _redis_command(folder / "redis", redis_port), folder / "redis.log")
        self.backs = [self.links.open([("127.0.0.1", redis_port)], seed + 1 + i) for i in range(REPLICAS)]
        self.controllers = [
            Process(
                f"controller-{i}",
                [sys.executable, "-m", "dcao_server.main", "serve"],
                folder / f"controller-{i}.log",
                _controller_environ(folder, ports[i], self.backs[i]),
            )
            for i in range(REPLICAS)
        ]
        self.front = self.links.open([("127.0.0.1", port) for port in ports], seed)
        self.ports = ports

    @property
    def url(self) -> str:
        """Where writers find a controller."""
        return f"http://127.0.0.1:{self.front.port}"

    def start(self) -> None:
        """Everything up and ready."""
        for process in (self.redis, *self.controllers):
            process.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until every replica says that it is ready."""
        deadline = time.monotonic() + START_SECONDS
        for port in self.ports:
            while not _ready(port):
                if time.monotonic() > deadline:
                    raise AssertionError(f"expected a ready controller on port {port}, see {self.folder}")
                time.sleep(0.05)

    def lose_last_second(self, sizes: dict[Path, int]) -> int:
        """Cuts the append-only file to the sizes of a moment ago; returns the bytes lost.

        What a crash of the whole machine does with `appendfsync everysec`. Redis must be down.
        """
        lost = 0
        for path, size in sizes.items():
            if path.exists() and path.stat().st_size > size:
                lost += path.stat().st_size - size
                os.truncate(path, size)
        return lost

    def log_sizes(self) -> dict[Path, int]:
        """Size of each append-only file now."""
        with contextlib.suppress(FileNotFoundError):
            return {path: path.stat().st_size for path in self.appendonly.glob("*.incr.aof")}
        return {}

    def stop(self) -> None:
        """Everything down."""
        for process in (*self.controllers, self.redis):
            process.signal(signal.SIGCONT)
            process.kill()
        self.links.close()


@contextlib.contextmanager
def cluster(folder: Path, seed: int) -> Iterator[Cluster]:
    """A running cluster, and nothing left of it."""
    if shutil.which("redis-server") is None:
        raise AssertionError("expected redis-server on the PATH; `make components` installs it")
    made = Cluster(folder, seed)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _redis_command(folder: Path, port: int) -> list[str]:
    return [
        "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
        "--appendonly", "yes", "--appendfsync", "everysec", "--aof-load-truncated", "yes",
        "--maxmemory-policy", "noeviction",
    ]  # fmt: skip


def _controller_environ(folder: Path, port: int, back: Link) -> dict[str, str]:
    return {
        "DCAO_PORT": str(port),
        "DCAO_REDIS_URL": f"redis://127.0.0.1:{back.port}/0",
        "DCAO_DATA": str(folder),
        "DCAO_DRAIN_SECONDS": "0.3",
        "DCAO_SHUTDOWN_SECONDS": "2",
    }


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
