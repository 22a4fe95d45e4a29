"""Load: closed-loop workers against one and two controllers with a real Redis, beside the ceiling, in one run.

    python benchmarks/load.py [--seconds 5] [--clients 1,2,4,8,16,32]

Every client is a training worker that does nothing else: it posts an observation, waits for the decision, echoes its
state in the next. Controllers get one core each; Redis and the clients share what is left, so on two cores two
controllers compete with them, which the table says. Prints decisions per second, per core-second of the controller,
and latency percentiles; then the ratio to the ceiling at equal p99.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from processes import controller, cpu_seconds, free_port, pinned, redis_server, stopped_after, wait_for

SPEC = {
    "optimizer": "sgd",
    "base": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "policy": {"name": "default"},
}
WARM_UP = 0.5  # s, not measured


@dataclass
class Result:
    """What one series of requests came to."""

    name: str
    clients: int
    rate: float
    per_core: float
    p50: float
    p99: float
    errors: int
    redis_share: float

    def row(self) -> str:
        """A line of the table; latencies in milliseconds."""
        return (
            f"{self.name:<14}{self.clients:>8}{self.rate:>12.0f}{self.per_core:>14.0f}{self.p50 * 1e3:>10.2f}"
            f"{self.p99 * 1e3:>10.2f}{self.errors:>8}{self.redis_share:>12.0%}"
        )


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


class Worker:
    """One keep-alive connection and one run. HTTP by hand: a client library would be what is measured."""

    def __init__(self, url: str, run: str, seed: int) -> None:
        self._host = urlsplit(url)
        self._run = run
        self._noise = random.Random(seed)
        self._echo: dict[str, object] = {}
        self._step = 0
        self.latencies: list[float] = []
        self.errors = 0

    async def run(self, until: float, measured_from: float) -> None:
        """Asks as fast as it is answered."""
        reader, writer = await asyncio.open_connection(self._host.hostname, self._host.port)
        path = f"/v1/projects/load/runs/{self._run}"
        await self._send(reader, writer, "PUT", path, json.dumps(SPEC).encode())
        while time.perf_counter() < until:
            self._step += 10
            body = json.dumps(observation(self._step, self._noise) | self._echo).encode()
            started = time.perf_counter()
            status, answer = await self._send(reader, writer, "POST", path + "/decisions", body)
            ended = time.perf_counter()
            if status != 200:
                self.errors += 1
                continue
            decision = json.loads(answer)
            self._echo = {"state": decision["state"], "version": decision["version"]}
            if started >= measured_from:
                self.latencies.append(ended - started)
        writer.close()

    @staticmethod
    async def _send(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, body: bytes
    ) -> tuple[int, bytes]:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        headers = (await reader.readuntil(b"\r\n\r\n")).lower()
        start = headers.index(b"content-length:") + 15
        length = int(headers[start : headers.index(b"\r\n", start)])
        return int(headers[9:12]), await reader.readexactly(length)


async def drive(urls: list[str], clients: int, seconds: float, tag: str) -> tuple[list[float], int]:
    """All latencies in order of size, and the number of errors."""
    begin = time.perf_counter()
    workers = [Worker(urls[i % len(urls)], f"{tag}-{i}", i) for i in range(clients)]
    await asyncio.gather(*(w.run(begin + WARM_UP + seconds, begin + WARM_UP) for w in workers))
    return sorted(t for w in workers for t in w.latencies), sum(w.errors for w in workers)


def measure(name: str, servers: list[tuple[str, int]], redis_pid: int, clients: int, seconds: float) -> Result:
    """One series."""
    pids = [pid for _, pid in servers]
    before, redis_before, started = [cpu_seconds(pid) for pid in pids], cpu_seconds(redis_pid), time.perf_counter()
    urls = [url for url, _ in servers]
    latencies, errors = uvloop.run(drive(urls, clients, seconds, f"{name.replace(' ', '')}-{clients}-{time.time_ns()}"))
    wall = time.perf_counter() - started
    busy = sum(cpu_seconds(pid) - b for pid, b in zip(pids, before, strict=True))
    count = len(latencies)
    return Result(
        name,
        clients,
        count / seconds,
        count / busy * (wall / seconds) if busy else 0.0,
        latencies[count // 2],
        latencies[int(count * 0.99)],
        errors,
        (cpu_seconds(redis_pid) - redis_before) / wall,
    )


@contextlib.contextmanager
def ceiling(redis_port: int, cores: list[int]) -> Iterator[tuple[str, int]]:
    """The bare endpoint; its decision and observation are of this benchmark's size."""
    port = free_port()
    environment = {
        **os.environ,
        "CEILING_SPEC": json.dumps(SPEC),
        "CEILING_OBSERVATION": json.dumps(observation(10, random.Random(0))),
    }
    script = Path(__file__).with_name("ceiling.py")
    command = pinned(cores, [sys.executable, str(script), str(port), str(redis_port)])
    with stopped_after(subprocess.Popen(command, env=environment)) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(url + "/readyz", process)
        yield url, process.pid


def best_within(results: list[Result], p99: float) -> Result | None:
    """The fastest series whose p99 does not exceed a limit."""
    return max((r for r in results if r.p99 <= p99), key=lambda r: r.rate, default=None)


def main() -> None:
    """Runs all series and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", default="1,2,4,8,12,16,24,32")
    parser.add_argument("--only", choices=["one", "all"], default="all")
    arguments = parser.parse_args()
    ladder = [int(text) for text in arguments.clients.split(",")]
    cores = sorted(os.sched_getaffinity(0))
    first, rest = cores[0], cores[1:] or cores
    os.sched_setaffinity(0, rest)
    print(f"cores {cores}: controller on {first}, Redis and clients on {rest}; {arguments.seconds} s a series")
    columns = ("decisions/s", 12), ("per core-s", 14), ("p50 ms", 10), ("p99 ms", 10), ("errors", 8), ("redis cpu", 12)
    print(f"{'':<14}{'clients':>8}" + "".join(f"{name:>{width}}" for name, width in columns))
    found: dict[str, list[Result]] = {"ceiling": [], "one": [], "two": []}
    with redis_server(rest) as (redis_port, redis_pid):
        with contextlib.ExitStack() as stack:
            bare = stack.enter_context(ceiling(redis_port, [first]))
            one = stack.enter_context(controller(redis_port, [first]))
            for clients in ladder:  # in turns, so that whatever disturbs the machine disturbs both
                for name, servers in (("ceiling", [bare]), ("one", [one[:2]])):
                    found[name].append(measure(name, servers, redis_pid, clients, arguments.seconds))
                    print(found[name][-1].row(), flush=True)
        if arguments.only == "all":
            with controller(redis_port, [first]) as a, controller(redis_port, rest[:1]) as b:
                for clients in ladder:
                    found["two"].append(measure("two", [a[:2], b[:2]], redis_pid, clients, arguments.seconds))
                    print(found["two"][-1].row(), flush=True)
    summarise(found)


def summarise(found: dict[str, list[Result]]) -> None:
    """The figures that matter."""
    top = max(found["ceiling"], key=lambda r: r.rate)
    own = best_within(found["one"], top.p99)
    fastest = max(found["one"], key=lambda r: r.rate)
    print(f"\nceiling's best: {top.rate:.0f}/s with {top.clients} clients, p99 {top.p99 * 1e3:.2f} ms")
    print(f"controller's best: {fastest.rate:.0f}/s, {fastest.rate / top.rate:.2f} × the ceiling")
    if own is not None:
        print(
            f"at no greater p99: {own.rate:.0f}/s with {own.clients} clients, {own.rate / top.rate:.2f} × the ceiling"
        )
    if found["two"]:
        both = max(found["two"], key=lambda r: r.rate)
        print(f"two controllers: {both.rate:.0f}/s, {both.rate / fastest.rate:.2f} × one")
    print(f"errors: {sum(r.errors for series in found.values() for r in series)}")


if __name__ == "__main__":
    main()
