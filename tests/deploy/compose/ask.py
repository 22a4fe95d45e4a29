"""Asks the controller and Prometheus over HTTP, with nothing but the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from stack import CheckError, expect

# The engine's addresses are local: a proxy for the outside world has no business here.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Answer(NamedTuple):
    """Status and text of an answer."""

    status: int
    text: str


def get(url: str, key: str | None = None, timeout: float = 5) -> Answer:
    """The answer to a GET, whatever its status.

    Raises:
        OSError: there was none within `timeout` seconds.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode())


class Controller:
    """The API as a worker or person sees it, through the proxy.

    Args:
        url: the proxy.
        secrets: folder with `api_key`.
    """

    def __init__(self, url: str, secrets: Path) -> None:
        self.url = url
        self._key = (secrets / "api_key").read_text()

    def ask(self, path: str) -> str:
        """Text of a 200.

        Raises:
            CheckError: another status.
        """
        answer = get(self.url + path, self._key)
        expect(answer.status == 200, f"expected 200 from GET {path}, got {answer.status}: {answer.text[:500]}")
        return answer.text

    def run(self, project: str, run: str) -> dict[str, Any]:
        """The run's own description."""
        described: dict[str, Any] = json.loads(self.ask(f"/v1/projects/{project}/runs/{run}"))
        return described

    def history(self, project: str, run: str) -> list[dict[str, Any]]:
        """Every record of the run, in the order the controller gives them."""
        text = self.ask(f"/v1/projects/{project}/runs/{run}/decisions?format=ndjson&limit=100000")
        return [json.loads(line) for line in text.splitlines() if line]


class Prometheus:
    """Prometheus' HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def api(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer.

        Raises:
            CheckError: Prometheus refused.
        """
        answer = get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        expect(answer.status == 200, f"expected 200 from Prometheus for {path} {parameters}, got {answer.text[:300]}")
        return json.loads(answer.text)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector that the expression gives now."""
        result: list[dict[str, Any]] = self.api("query", query=expression)["result"]
        return result

    def up(self, job: str) -> list[str]:
        """Addresses of the job's targets that answer."""
        targets = self.api("targets", state="active")["activeTargets"]
        return sorted(t["labels"]["instance"] for t in targets if t["labels"]["job"] == job and t["health"] == "up")


def series_names(exposition: str) -> set[str]:
    """Names of the series in a text that Prometheus scrapes, histograms' buckets and sums by their own names.

    Raises:
        CheckError: there is none.
    """
    names = {line.split("{")[0].split(" ")[0] for line in exposition.splitlines() if line and not line.startswith("#")}
    if not names:
        raise CheckError(f"expected an exposition with series, got {exposition[:200]!r}")
    return names
