"""Closed-loop training workers: each posts an observation, waits for the decision, echoes its state in the next.

HTTP by hand on bare protocols, bodies written beforehand, answers cut and not parsed: a client library, or even `json`,
would be what is measured. A worker takes 12–15 µs a decision.
"""

import asyncio
import json
import random
import time
from dataclasses import dataclass
from itertools import cycle
from typing import cast
from urllib.parse import urlsplit

SPEC = {
    "optimizer": "sgd",
    "base": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "policy": {"name": "default"},
}
VARIANTS = 256
"""Different observations, which the workers take in turns."""
PATIENCE = 10  # s, for the last answers


def observation(step: int, noise: random.Random) -> dict[str, object]:
    """What a worker with a full probe posts."""
    return {
        "attempt": 1,
        "step": step,
        "status": "ok",
        "rho": 12.3 * (1 + 0.1 * noise.random()),
        "gamma": 4.1 + noise.random(),
        "lambda_min": -0.8 + noise.random() / 9,
        "batch_sharpness": 9.7 + noise.random(),
        "grad_norm": 1.2 + noise.random(),
        "loss": 0.41 + noise.random(),
        "rho_bound": 0.01,
        "gamma_bound": 0.02,
        "base": {"lr": 0.08, "momentum": 0.9, "weight_decay": 5e-4},
        "applied": {"lr": 0.09, "momentum": 0.9, "weight_decay": 5e-4},
        "probe": {"matvecs": 8, "seconds": 0.4123, "overhead": 0.03, "examples": 64, "fingerprint": "fixed-64-f32"},
        "worker": "rank0",
        "weight": 1.0,
    }


def _beginnings() -> list[bytes]:
    """Bodies up to the step, which comes last with the echo."""
    noise = random.Random(0)
    bodies = [json.dumps({k: v for k, v in observation(0, noise).items() if k != "step"}) for _ in range(VARIANTS)]
    return [body[:-1].encode() + b', "step": %d' for body in bodies]


_BEGINNINGS = _beginnings()


@dataclass
class Window:
    """When the workers stop, and from when on they are measured; in seconds of `time.perf_counter`."""

    measured_from: float
    until: float


class Worker(asyncio.Protocol):
    """One keep-alive connection and one run."""

    def __init__(self, run: str, window: Window) -> None:
        path = f"/v1/projects/load/runs/{run}"
        head = " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        self._put = f"PUT {path}{head}".encode()
        self._post = f"POST {path}/decisions{head}".encode()
        self._window = window
        self._beginnings = cycle(_BEGINNINGS)
        self._answer = b""
        self._echo = b"}"
        self._step = 0
        self._started = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.answers = 0
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Creates the run."""
        self._transport = cast(asyncio.Transport, transport)
        self._send(self._put, json.dumps(SPEC).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        """At the end, or too early, which is an error."""
        if not self.done.done():
            self.errors += 1
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        """An answer, or a part of one."""
        self._answer += data
        end = self._answer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._answer.index(b"content-length: ") + 16
        if len(self._answer) - end - 4 >= int(self._answer[at : self._answer.index(b"\r", at)]):
            answer, self._answer = self._answer, b""
            self._answered(answer)

    def _answered(self, answer: bytes) -> None:
        now = time.perf_counter()
        if self._step:
            self.answers += 1
            if answer.startswith(b"HTTP/1.1 200 "):
                state = answer.index(b'"state":"') + 9
                version = answer.rindex(b'"version":') + 10
                self._echo = b', "state": "%b", "version": %b' % (
                    answer[state : answer.index(b'"', state)],
                    answer[version:],  # the closing brace is the body's too
                )
                if self._started >= self._window.measured_from:
                    self.latencies.append(now - self._started)
            else:
                self.errors += 1
        if now >= self._window.until:
            self.done.set_result(None)
            self._transport.close()
            return
        self._step += 10
        self._started = time.perf_counter()
        self._send(self._post, next(self._beginnings) % self._step + self._echo)

    def _send(self, head: bytes, body: bytes) -> None:
        self._transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))


async def drive(urls: list[str], clients: int, warm_up: float, seconds: float, tag: str) -> list[Worker]:
    """Workers that have worked for so long, spread over the controllers."""
    begin = time.perf_counter() + warm_up
    window = Window(begin, begin + seconds)
    loop = asyncio.get_running_loop()
    workers = []
    for number in range(clients):
        host = urlsplit(urls[number % len(urls)])
        worker = Worker(f"{tag}-{number}", window)
        await loop.create_connection(lambda worker=worker: worker, host.hostname or "", host.port or 80)  # type: ignore[misc]
        workers.append(worker)
    async with asyncio.timeout(warm_up + seconds + PATIENCE):
        await asyncio.gather(*(worker.done for worker in workers))
    return workers
