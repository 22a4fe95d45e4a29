"""Real processes for benchmarks: a Redis as in production, and controllers, each on the cores it is given."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads so far; to the nanosecond where Linux counts so."""
    threads = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
    if threads:
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pinned(cores: Sequence[int], command: Sequence[str]) -> list[str]:
    """The command on these cores only, where the system can do that."""
    if not cores or shutil.which("taskset") is None:
        return list(command)
    return ["taskset", "-c", ",".join(map(str, cores)), *command]


@contextlib.contextmanager
def stopped_after(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """Ends the process with the block."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def redis_server(cores: Sequence[int] = (), *, appendonly: bool = True) -> Iterator[tuple[int, int]]:
    """A Redis in a folder of its own; gives port and process id."""
    binary = shutil.which("redis-server")
    if binary is None:
        sys.exit("expected redis-server on the PATH; apt-get install redis-server, or brew install redis")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--port", str(port), "--dir", folder, "--save", "", "--bind", "127.0.0.1"]
        command += ["--appendonly", "yes" if appendonly else "no", "--maxmemory-policy", "noeviction"]
        process = subprocess.Popen(pinned(cores, command), stdout=subprocess.DEVNULL)
        with stopped_after(process):
            _wait_for_port(port)
            yield port, process.pid


@contextlib.contextmanager
def controller(redis_port: int | None, cores: Sequence[int] = (), **settings: str) -> Iterator[tuple[str, int, Path]]:
    """A controller over HTTP; gives its URL, process id and data folder. Settings without `DCAO_`."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DCAO_PORT": str(port), "DCAO_DRAIN_SECONDS": "0", "DCAO_DATA": folder}
        if redis_port is not None:
            environment["DCAO_REDIS_URL"] = f"redis://127.0.0.1:{redis_port}"
        environment |= {f"DCAO_{name.upper()}": value for name, value in settings.items()}
        command = pinned(cores, [sys.executable, "-m", "dcao_server.main", "serve"])
        with stopped_after(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)) as process:
            url = f"http://127.0.0.1:{port}"
            wait_for(url + "/readyz", process)
            yield url, process.pid, Path(folder)


def wait_for(url: str, process: "subprocess.Popen[bytes]", seconds: float = 30) -> None:
    """Returns when the URL answers 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"expected a process that serves {url}, got one that ended with {process.returncode}")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.05)
    sys.exit(f"expected {url} to answer within {seconds} s")


def _wait_for_port(port: int, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    sys.exit(f"expected redis-server on port {port} within {seconds} s")
