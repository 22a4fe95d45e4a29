"""A real controller process on a port of its own that can be killed and restarted."""

import subprocess
from pathlib import Path

from dcao_experiments.controller_process import free_port, start_controller


class Controller:
    """One `dcao-controller` process; its store outlives it."""

    def __init__(self, data: Path, *, redis_url: str | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._data = data
        self._redis_url = redis_url
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        self.process = start_controller(self.port, self._data, redis_url=self._redis_url)

    def kill(self) -> None:
        """kill −9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
