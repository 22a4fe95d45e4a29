"""A real redis-server on a port of its own, with the append-only file on, that can be killed and restarted."""

import shutil
import subprocess
import time
from pathlib import Path

import redis

from dcao_experiments.controller_process import free_port


class RedisServer:
    """One redis-server process.

    Args:
        directory: of its append-only file; it survives `kill`.
        options: further command-line options.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *more: str, loaded: bool = True) -> None:
        """Starts it with ``more`` options and waits until it answers; its data ``loaded``, or while it loads them."""
        command = shutil.which("redis-server")
        assert command is not None, "expected redis-server; make components installs it"
        self._directory.mkdir(parents=True, exist_ok=True)
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        arguments += [
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--save",
            "",
            "--maxmemory-policy",
            "noeviction",
        ]
        with (self._directory / "redis.log").open("ab") as log:
            self.process = subprocess.Popen([command, *arguments, *self._options, *more], stdout=log, stderr=log)
        with redis.Redis(port=self.port) as client:
            for _ in range(500):
                try:
                    client.ping()
                    return
                except redis.BusyLoadingError:
                    if not loaded:
                        return
                    time.sleep(0.02)
                except redis.ConnectionError:
                    time.sleep(0.02)
        raise AssertionError(f"redis-server did not start: {(self._directory / 'redis.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """kill −9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def client(self) -> redis.Redis:
        """A plain client, to look inside."""
        return redis.Redis(port=self.port)
