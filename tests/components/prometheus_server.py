"""A real Prometheus with this repository's rules, which scrapes given controllers every second."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from dcao_experiments.controller_process import free_port

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "rules"


class PrometheusServer:
    """One prometheus process.

    Args:
        directory: of its configuration, data and log.
        controllers: `host:port` of each replica; run metrics are scraped from the first.
        interval: between scrapes, and between evaluations of the rules, in seconds.
    """

    def __init__(self, directory: Path, controllers: list[str], *, interval: int = 1) -> None:
        command = shutil.which("prometheus")
        assert command is not None, "expected prometheus; make components installs it"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "prometheus.json"  # JSON is YAML
        config.write_text(json.dumps(_config(controllers, interval)))
        self._log = directory / "prometheus.log"
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([command, *arguments], stdout=log, stderr=subprocess.STDOUT)
        self._wait()

    def _wait(self) -> None:
        for _ in range(600):
            try:
                if httpx.get(f"{self.url}/-/ready", trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"Prometheus did not start:\n{self._log.read_text()[-2000:]}")

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The instant vector of an expression now.

        Raises:
            AssertionError: Prometheus refuses the expression.
        """
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expr}, trust_env=False).json()
        assert answer["status"] == "success", f"{expr}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of an expression over a time, in seconds since the epoch."""
        params: dict[str, Any] = {"query": expr, "start": start, "end": end, "step": step}
        answer = httpx.get(f"{self.url}/api/v1/query_range", params=params, trust_env=False).json()
        assert answer["status"] == "success", f"{expr}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def kill(self) -> None:
        """kill −9."""
        self.process.kill()
        self.process.wait()


def _config(controllers: list[str], interval: int) -> dict[str, Any]:
    seconds = f"{interval}s"
    return {
        "global": {"scrape_interval": seconds, "scrape_timeout": seconds, "evaluation_interval": seconds},
        "rule_files": [str(RULES / "*.yml")],
        "scrape_configs": [
            {"job_name": "dcao-controller", "static_configs": [{"targets": controllers}]},
            {
                "job_name": "dcao-runs",
                "metrics_path": "/metrics/runs",
                "static_configs": [{"targets": controllers[:1]}],
            },
        ],
    }
