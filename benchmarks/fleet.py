"""Many live runs that decide all the time, on one keep-alive connection, each decision begun at its time and timed."""

import http.client
import json
import random
import time
from urllib.parse import urlsplit

BASE = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
SPEC = {"optimizer": "sgd", "base": BASE, "probe_interval": 50}
JSON = {"Content-Type": "application/json"}


class Fleet:
    """Runs `run-0000`, … of the project `bench`. They take turns, so that all change equally often.

    Args:
        url: of the controller.
        runs: how many; they are created, and each makes one decision.
    """

    def __init__(self, url: str, runs: int) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)
        self._paths = [f"/v1/projects/bench/runs/run-{i:04}" for i in range(runs)]
        self._echoes: list[dict[str, object]] = [{} for _ in range(runs)]
        self._noise = random.Random(0)
        self._turn = 0
        self._step = 0
        for path in self._paths:
            self._ask("PUT", path, json.dumps(SPEC).encode())
        self.once()

    def once(self) -> None:
        """Every run decides once, as fast as it goes."""
        for _ in self._paths:
            self.decide()

    def decide(self, started: float | None = None) -> float:
        """The next run's decision; seconds since `started`, or since the observation was ready to be sent."""
        index = self._turn % len(self._paths)
        self._turn += 1
        if index == 0:
            self._step += 50
        body = json.dumps(self._observation() | self._echoes[index]).encode()
        began = time.perf_counter() if started is None else started
        text = self._ask("POST", self._paths[index] + "/decisions", body)
        taken = time.perf_counter() - began
        decision = json.loads(text)
        self._echoes[index] = {"state": decision["state"], "version": decision["version"]}
        return taken

    def paced(self, rate: float, seconds: float) -> list[float]:
        """Seconds from when each of `rate` decisions a second was due to its answer: who comes late, has waited."""
        taken = []
        begin = time.perf_counter()
        for i in range(int(rate * seconds)):
            due = begin + i / rate
            if (early := due - time.perf_counter()) > 0:
                time.sleep(early)
            taken.append(self.decide(due))
        return taken

    def unpaced(self, seconds: float) -> list[float]:
        """Seconds of each decision, one after the other without a pause."""
        taken = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            taken.append(self.decide())
        return taken

    def _observation(self) -> dict[str, object]:
        noise = self._noise.random()
        rho = 12.0 * (1 + 0.1 * noise)
        return {
            "attempt": 1,
            "step": self._step,
            "rho": rho,
            "gamma": 0.3 * rho,
            "lambda_min": -0.08 * rho,
            "batch_sharpness": 0.6 * rho,
            "grad_norm": 0.5 + noise,
            "loss": 0.25 + noise,
            "rho_bound": 0.004 * rho,
            "gamma_bound": 0.01 * rho,
            "base": BASE,
            "probe": {"matvecs": 8, "seconds": 0.3, "overhead": 0.03, "examples": 128, "fingerprint": "current:128"},
        }

    def _ask(self, method: str, path: str, body: bytes) -> bytes:
        self._connection.request(method, path, body, JSON)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            raise RuntimeError(f"expected a decision, got {answer.status}: {text.decode()[:300]}")
        return text
