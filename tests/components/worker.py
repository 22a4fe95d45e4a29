"""A worker that posts observations over HTTP, with curvature from a formula instead of a network.

Sharpness rises until the step size holds it at the edge of stability, as it does in training (progressive sharpening,
Cohen et al. 2021 §3); everything else is in proportion. The decisions are the controller's own.
"""

import math
import random
import weakref
from typing import Any

import httpx

BASE = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
INTERVAL = 50


class Worker:
    """One run. `observe` makes one step of it; the answer of the controller is kept as `decision`.

    Args:
        url: of the controller.
        project, run: name of the run; it is created.
        seed: of everything random.
        key: API key, if the controller asks for one.
        spec: fields of the run's specification that differ from the defaults here.
    """

    def __init__(self, url: str, project: str, run: str, *, seed: int = 0, key: str | None = None, **spec: Any) -> None:
        self.path = f"/v1/projects/{project}/runs/{run}"
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.client = httpx.Client(base_url=url, timeout=10, headers=headers)
        weakref.finalize(self, self.client.close)
        self.random = random.Random(seed)
        self.rho = 4.0 + 6.0 * self.random.random()
        self.probes = 0
        self.attempt = 1
        self.decision: dict[str, Any] = {**BASE, "state": None, "version": None}
        body = {"optimizer": "sgd", "base": BASE, "probe_interval": INTERVAL, **spec}
        self.client.put(self.path, json=body).raise_for_status()

    @property
    def step(self) -> int:
        """Optimizer steps so far."""
        return self.probes * INTERVAL

    def observation(self, **changes: Any) -> dict[str, Any]:
        """The next one; a field that is changed to None is left out."""
        limit = 2 * (1 + self.decision["momentum"]) / max(self.decision["lr"], 1e-9)
        self.rho *= math.exp(0.12 * (1 - self.rho / limit) + self.random.gauss(0, 0.04))
        observation = {
            "attempt": self.attempt,
            "step": self.step,
            "rho": self.rho,
            "gamma": 0.3 * self.rho,
            "lambda_min": -0.08 * self.rho,
            "batch_sharpness": 0.6 * self.rho,
            "grad_norm": 0.5,
            "loss": 0.25 + 2.0 * math.exp(-self.probes / 80) + abs(self.random.gauss(0, 0.01)),
            "rho_bound": 0.004 * self.rho,
            "gamma_bound": 0.01 * self.rho,
            "base": BASE,
            "probe": {"matvecs": 8, "seconds": 0.3, "overhead": 0.03, "examples": 128, "fingerprint": "current:128"},
            "state": self.decision["state"],
            "version": self.decision["version"],
            **changes,
        }
        return {name: value for name, value in observation.items() if value is not None}

    def observe(self, **changes: Any) -> dict[str, Any]:
        """Posts the next observation; the decision.

        Raises:
            httpx.HTTPStatusError: the controller refused it.
        """
        self.probes += 1
        answer = self.client.post(f"{self.path}/decisions", json=self.observation(**changes))
        answer.raise_for_status()
        self.decision = answer.json()
        return self.decision

    def restart(self, back_to: int) -> None:
        """Goes back to a checkpoint some probes ago, as a new attempt."""
        answer = self.client.post(f"{self.path}/attempts", json={"step": back_to * INTERVAL})
        answer.raise_for_status()
        self.probes = back_to
        began = answer.json()
        self.attempt = began["attempt"]
        self.decision = {**self.decision, "state": began["state"], "version": began["version"]}

    def finish(self) -> None:
        """Ends the run."""
        self.client.post(f"{self.path}:finish").raise_for_status()
