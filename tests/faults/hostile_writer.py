"""A hostile writer against a real controller: no 5xx, the event loop is never held for 50 ms, memory is bounded.

    python -m tests.faults.hostile_writer --requests 5000 --seed 1

The loop's time is CPU time of one callback, so a busy machine does not count; the memory is what the process's peak
rose by during a request: at most ten times the body, and what any answer needs.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.faults.hostile_requests import SPEC, Hostile, Request
from tests.faults.watched_server import HELD
from tests.server.operation.process import Server, running

HELD_SECONDS = 0.05
TIMES, FLOOR = 10, 24 * 1024 * 1024
"""Memory: so many times the body, and what pages, metrics and the allocator take for any request."""
RUNS = [f"/v1/projects/p/runs/r{i}" for i in range(3)]


class Seen(NamedTuple):
    """What one run of it saw at worst."""

    requests: int
    statuses: dict[int, int]
    held: float
    memory: float
    """Bytes above the floor for each byte of a body, at most."""
    faults: list[str]


class Memory:
    """Of a process: what it has, and the most it had since it was asked to start anew."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def anew(self) -> int:
        """Forgets the peak; bytes now."""
        (self._folder / "clear_refs").write_text("5")
        return self._field("VmRSS")

    def peak(self) -> int:
        """Bytes."""
        return self._field("VmHWM")

    def _field(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def attack(server: Server, seed: int, requests: int) -> Seen:
    """Sends so many requests, one after the other, and looks at the controller after each."""
    memory, hostile = Memory(server.process.pid), Hostile(seed)
    statuses: dict[int, int] = {}
    faults: list[str] = []
    worst_held = worst_memory = 0.0
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        hostile.token = _begin(client)
        client.get(HELD)
        for index in range(requests):
            if index % 50 == 49:
                _begin(client)
            request = hostile.request()
            before = memory.anew()
            status = _send(client, request)
            above = max(0, memory.peak() - before - FLOOR) / max(1, len(request.body or b""))
            held = client.get(HELD).json()
            statuses[status] = statuses.get(status, 0) + 1
            worst_held, worst_memory = max(worst_held, held["seconds"]), max(worst_memory, above)
            what = f"{index}: {request.method} {request.target[:80]} {len(request.body or b'')} B {request.body!r:.80}"
            if status >= 500:
                faults.append(f"{status} for {what}")
            if held["seconds"] > HELD_SECONDS:
                faults.append(f"held {held['seconds']:.3f} s by {what}: {held['what']}")
            if above > TIMES:
                faults.append(f"{above:.0f} times its size for {what}")
    return Seen(requests, statuses, worst_held, worst_memory, faults)


def _begin(client: httpx.Client) -> str:
    """The runs that are attacked exist; a token of one of them."""
    for run in RUNS:
        client.put(run, json=SPEC)
    decision = client.post("/v1/decide", json={"spec": SPEC, "observation": {"step": 1, "rho": 12.0, "gamma": 4.0}})
    return str(decision.json()["state"])


def _send(client: httpx.Client, request: Request) -> int:
    """The answer's status; 0 when the connection was closed without one."""
    headers = {name: value.encode("utf-8", "replace").decode("latin-1") for name, value in request.headers.items()}
    with (
        contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError),
        client.stream(request.method, request.target, headers=headers, content=request.body) as response,
    ):
        response.read()
        return response.status_code
    return 0


def run(seed: int, requests: int, folder: Path, **environ: str) -> Seen:
    """Starts a controller and attacks it."""
    options = {"DCAO_ACCESS_LOG": "off", **environ}
    with running(folder / "log", "-m", "tests.faults.watched_server", **options) as server:
        return attack(server, seed, requests)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--redis", default="", help="URL of a Redis; SQLite if absent")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        environ = {"DCAO_REDIS_URL": options.redis} if options.redis else {}
        seen = run(options.seed, options.requests, Path(folder), **environ)
    print(
        f"{seen.requests} requests in {time.monotonic() - began:.0f} s, answers {dict(sorted(seen.statuses.items()))}"
    )
    print(f"loop held {1000 * seen.held:.0f} ms at most; memory at most {seen.memory:.1f} times a body above the floor")
    print("\n".join(seen.faults[:20]))
    return 1 if seen.faults else 0


if __name__ == "__main__":
    sys.exit(main())
