"""One run that is walked step by step over a keep-alive connection, timing each decision."""

import http.client
import json
import random
import time
from urllib.parse import urlsplit

from load import SPEC, observation

from dcao_server.store.contract import RunKey

_connections: dict[str, http.client.HTTPConnection] = {}


class Walker:
    """Echoes each decision in the next observation. All walkers of one URL share one connection.

    Args:
        url: of the controller.
        key: the run.
        start: its first step.
        create: create the run first.
    """

    def __init__(self, url: str, key: RunKey, start: int, *, create: bool = False) -> None:
        self._url = url
        self._path = f"/v1/projects/{key.project}/runs/{key.run}"
        self._step = start
        self._noise = random.Random(start)
        self._echo: dict[str, object] = {}
        if create:
            self._ask("PUT", self._path, SPEC)

    def step(self) -> float:
        """One decision; the seconds that it took."""
        self._step += 10
        body = observation(self._step, self._noise) | self._echo
        started = time.perf_counter()
        decision = self._ask("POST", self._path + "/decisions", body)
        taken = time.perf_counter() - started
        self._echo = {"state": decision["state"], "version": decision["version"]}
        return taken

    def _ask(self, method: str, path: str, body: dict[str, object]) -> dict[str, object]:
        connection = _connections.get(self._url)
        if connection is None:
            host = urlsplit(self._url)
            connection = _connections[self._url] = http.client.HTTPConnection(host.hostname or "", host.port)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):  # idle for longer than the controller keeps one
            del _connections[self._url]
            return self._ask(method, path, body)
        text = response.read()
        if response.status not in (200, 201):
            raise RuntimeError(f"expected a decision, got {response.status}: {text.decode()[:300]}")
        answer: dict[str, object] = json.loads(text)
        return answer
