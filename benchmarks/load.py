"""Load: closed-loop workers against one and two controllers with a real Redis, beside the ceiling, in one run.

    python benchmarks/load.py [--seconds 0.6] [--rounds 8] [--clients 1,2,4,6,8,16]

One controller has a core of its own; Redis and the workers share the others. Ceiling and controller take turns, so that
whatever disturbs the machine disturbs both, and a row is the calmest of the rounds. Prints decisions per second,
processor time a decision of controller, Redis and workers, latency percentiles; then the ratio to the ceiling per
core-second and at equal p99, and what two controllers make of the machine's cores: as they are, and with each limited
to a share of a core, so that the cores suffice for two.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import quota
import uvloop
from closed_loop import SPEC, drive, observation
from processes import controller, cpu_seconds, free_port, pinned, redis_server, stopped_after, wait_for

WARM_UP = 0.3  # s, not measured
SHARE = 0.35  # of a core, for each of two controllers
__all__ = ["SPEC", "observation"]

Server = tuple[str, int]
"""URL and process."""


@dataclass(frozen=True)
class Series:
    """What one series of requests came to. Times in seconds; `own`, `redis`, `workers`: processor time a decision."""

    clients: int
    rate: float
    own: float
    redis: float
    workers: float
    p50: float
    p99: float
    errors: int

    def row(self, name: str) -> str:
        """A line of the table."""
        times = f"{self.own * 1e6:>12.1f}{self.redis * 1e6:>10.1f}{self.workers * 1e6:>10.1f}"
        return (
            f"{name:<16}{self.clients:>8}{self.rate:>12.0f}{times}{self.p50 * 1e3:>10.2f}{self.p99 * 1e3:>10.2f}"
            f"{self.errors:>8}"
        )


COLUMNS = f"{'':<16}{'clients':>8}{'decisions/s':>12}{'its µs':>12}{'Redis µs':>10}{'workers':>10}" + (
    f"{'p50 ms':>10}{'p99 ms':>10}{'errors':>8}"
)


def measure(name: str, servers: list[Server], redis_pid: int, clients: int, seconds: float) -> Series:
    """One series."""
    pids = [pid for _, pid in servers]
    before = [cpu_seconds(pid) for pid in (*pids, redis_pid, os.getpid())]
    workers = uvloop.run(drive([url for url, _ in servers], clients, WARM_UP, seconds, f"{name}-{time.time_ns()}"))
    busy = [cpu_seconds(pid) - b for pid, b in zip((*pids, redis_pid, os.getpid()), before, strict=True)]
    latencies = sorted(t for worker in workers for t in worker.latencies)
    answers = sum(worker.answers for worker in workers)
    return Series(
        clients,
        len(latencies) / seconds,
        sum(busy[:-2]) / answers,
        busy[-2] / answers,
        busy[-1] / answers,
        latencies[len(latencies) // 2],
        latencies[int(len(latencies) * 0.99)],
        sum(worker.errors for worker in workers),
    )


def calmest(rounds: list[Series]) -> Series:
    """The round with the least p99: what disturbs a machine only adds to it. Errors of all add up."""
    return replace(min(rounds, key=lambda series: series.p99), errors=sum(series.errors for series in rounds))


def in_turns(
    kinds: dict[str, list[Server]], redis_pid: int, clients: int, rounds: int, seconds: float
) -> dict[str, list[Series]]:
    """Rounds of one series each."""
    turns: dict[str, list[Series]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, servers in kinds.items():
            turns[name].append(measure(name, servers, redis_pid, clients, seconds))
    return turns


@contextlib.contextmanager
def ceiling(redis_port: int, cores: list[int]) -> Iterator[Server]:
    """The bare endpoint."""
    port = free_port()
    script = Path(__file__).with_name("ceiling.py")
    command = pinned(cores, [sys.executable, str(script), str(port), str(redis_port)])
    with stopped_after(subprocess.Popen(command)) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(url + "/readyz", process)
        yield url, process.pid


def frontier(series: list[Series]) -> list[tuple[float, float]]:
    """p99 and rate with more and more clients, both rising: what more clients do better, fewer could have done."""
    ordered = sorted(series, key=lambda s: s.clients)
    return [
        (min(s.p99 for s in ordered[index:]), max(s.rate for s in ordered[: index + 1]))
        for index in range(len(ordered))
    ]


def rate_at(series: list[Series], p99: float) -> float | None:
    """Decisions per second at a p99, between those measured; None below the least of them."""
    points = frontier(series)
    if p99 < points[0][0]:
        return None
    for (left, slow), (right, fast) in pairwise(points):
        if left <= p99 < right:
            return slow + (fast - slow) * (p99 - left) / (right - left)
    return points[-1][1]


def beside_the_ceiling(ladder: list[int], rounds: int, seconds: float, core: int, rest: list[int]) -> list[Series]:
    """Ceiling and controller in turns on one core; prints the table and the ratios. Gives the controller's series."""
    found: dict[str, list[Series]] = {"ceiling": [], "controller": []}
    ratios: list[float] = []
    with (
        redis_server(rest) as (redis_port, redis_pid),
        ceiling(redis_port, [core]) as bare,
        controller(redis_port, [core]) as (url, pid, _),
    ):
        for clients in ladder:
            turns = in_turns({"ceiling": [bare], "controller": [(url, pid)]}, redis_pid, clients, rounds, seconds)
            for name, series in turns.items():
                found[name].append(calmest(series))
                print(found[name][-1].row(name), flush=True)
            if clients >= 4:  # below, both wait more than they work
                ratios += [b.own / o.own for b, o in zip(turns["ceiling"], turns["controller"], strict=True)]
    print(f"\nper core-second: {median(ratios):.2f} × the ceiling with 4 and more clients")
    for p99, most in frontier(found["ceiling"]):
        rate = rate_at(found["controller"], p99)
        ratio = "not reached" if rate is None else f"{rate:.0f}/s, {rate / most:.2f} × the ceiling's {most:.0f}/s"
        print(f"at a p99 of {p99 * 1e3:.2f} ms: {ratio}")
    best, own = (max(s.rate for s in found[name]) for name in ("ceiling", "controller"))
    p99 = next(p99 for p99, most in frontier(found["ceiling"]) if most == best)
    rate = rate_at(found["controller"], p99) or 0.0
    print(f"at equal p99, {p99 * 1e3:.2f} ms, where the ceiling makes most: {rate / best:.2f} × the ceiling")
    print(f"each at its most: {own / best:.2f} × the ceiling")
    return found["controller"]


def two_controllers(
    ladder: list[int], rounds: int, seconds: float, cores: list[int], share: float | None
) -> tuple[Series, Series]:
    """The best series of one and of two controllers, all processes on all cores; in turns."""
    found: dict[str, list[Series]] = {"one": [], "two": []}
    with contextlib.ExitStack() as stack:
        port, redis_pid = stack.enter_context(redis_server(cores))
        a, b = (stack.enter_context(controller(port, cores))[:2] for _ in range(2))
        if share is not None:
            stack.enter_context(quota.limited([a[1], b[1]], share))
        for clients in ladder:
            for name, series in in_turns({"one": [a], "two": [a, b]}, redis_pid, clients, rounds, seconds).items():
                found[name].append(calmest(series))
                print(found[name][-1].row(name if share is None else f"{name}, {share:.2f} core"), flush=True)
    best = [max(series, key=lambda s: s.rate) for series in found.values()]
    return best[0], best[1]


def main() -> None:
    """Runs all series and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.6, help="of a round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--clients", default="1,2,4,6,8,16")
    parser.add_argument("--only", choices=["one", "two", "all"], default="all")
    given = parser.parse_args()
    ladder = [int(text) for text in given.clients.split(",")]
    cores = sorted(os.sched_getaffinity(0))
    first, rest = cores[0], cores[1:] or cores
    errors = 0
    if given.only != "two":
        os.sched_setaffinity(0, rest)
        print(f"One controller on core {first}, Redis and workers on {rest}; {given.rounds} × {given.seconds} s a row")
        print(COLUMNS)
        errors += sum(s.errors for s in beside_the_ceiling(ladder, given.rounds, given.seconds, first, rest))
        os.sched_setaffinity(0, cores)
    if given.only != "one":
        several = [clients for clients in ladder if clients >= 4] or ladder
        print(f"\nControllers, Redis and workers on cores {cores}\n{COLUMNS}")
        one, two = two_controllers(several, given.rounds, given.seconds, cores, None)
        whole = two.own + two.redis + two.workers
        print(f"two controllers: {two.rate:.0f}/s, {two.rate / one.rate:.2f} × one")
        print(
            f"a decision takes {two.own * 1e6:.0f} + {two.redis * 1e6:.0f} + {two.workers * 1e6:.0f} µs of controller, "
            f"Redis and workers, so {len(cores)} cores make {len(cores) / whole:.0f}/s at most: "
            f"{len(cores) / whole / one.rate:.2f} × one"
        )
        errors += one.errors + two.errors
        if quota.available():
            one, two = two_controllers(several, given.rounds, given.seconds, cores, SHARE)
            print(f"two controllers with {SHARE} core each: {two.rate:.0f}/s, {two.rate / one.rate:.2f} × one")
            errors += one.errors + two.errors
    print(f"errors: {errors}")


if __name__ == "__main__":
    main()
