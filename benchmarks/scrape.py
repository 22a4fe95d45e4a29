"""What a scrape of a thousand live runs costs, and what it costs the decisions that are made meanwhile.

    python -m benchmarks.scrape [--runs 1000] [--rate 500] [--seconds 8] [--rounds 3] [--only scrape,decisions,slices]

starts a real controller on a real Redis, fills it with live runs, and measures

1. the scrape: cold, with every run changed since the last one, and with none changed;
2. decisions, spread over all runs so that all of them change: without scrapes, with one every five seconds as the
   shipped Prometheus makes, and with one every second; at a rate (a decision that begins late has waited, and the wait
   counts), and one after the other without a pause. The three take turns, several rounds of them;
3. how long the event loop is kept at a time: by reading the runs, by rendering them in slices (what the controller
   does), in a thread, all at once; and how long the client library's collectors take for the same samples.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from benchmarks.fleet import Fleet
from benchmarks.scraper import scraping
from benchmarks.slices import slices
from tests.components.controller import Controller
from tests.components.redis_server import RedisServer

EVERY = {"without scrapes": None, "a scrape every 5 s": 5.0, "a scrape every second": 1.0}
PARTS = ("scrape", "decisions", "slices")


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def scrape(url: str) -> tuple[float, int]:
    """Seconds and bytes of one scrape."""
    started = time.perf_counter()
    body = httpx.get(f"{url}/metrics/runs", timeout=30).raise_for_status().content
    return time.perf_counter() - started, len(body)


def scrapes(url: str, fleet: Fleet, runs: int) -> float:
    """The first part; the seconds of the slowest scrape."""
    time.sleep(1.1)
    cold, size = scrape(url)
    print(f"scrape of {runs} live runs, {size / 1e6:.1f} MB")
    print(f"  cold                 {1e3 * cold:6.1f} ms")
    changed, unchanged = [], []
    for _ in range(5):
        fleet.once()
        time.sleep(1.1)
        changed.append(scrape(url)[0])
        time.sleep(1.1)
        unchanged.append(scrape(url)[0])
    print(f"  every run changed    {1e3 * statistics.median(changed):6.1f} ms (of {len(changed)})")
    print(f"  no run changed       {1e3 * statistics.median(unchanged):6.1f} ms (of {len(unchanged)})")
    return max(cold, *changed)


def beside(url: str, name: str, decide: Callable[[], list[float]], rounds: int) -> None:
    """The second part, for one way of deciding. A percentile is the median of those of the rounds."""
    decide()
    taken: dict[str, list[list[float]]] = {scraped: [] for scraped in EVERY}
    took: list[float] = []
    order = list(EVERY)
    for turn in range(rounds):
        for scraped in order[turn % len(order) :] + order[: turn % len(order)]:
            with scraping(url, EVERY[scraped]) as seconds:
                taken[scraped].append(decide())
            took += seconds
    print(f"\n{name}; p99 of each round in brackets; a scrape took {1e3 * statistics.median(took):.0f} ms meanwhile")
    base = 0.0
    for scraped, found in taken.items():
        p50 = statistics.median(percentile(seconds, 0.5) for seconds in found)
        each = [percentile(seconds, 0.99) for seconds in found]
        p99 = statistics.median(each)
        base = base or p99
        spread = " ".join(f"{1e3 * value:.2f}" for value in sorted(each))
        print(
            f"  {scraped:<22} p50 {1e3 * p50:5.3f} ms   p99 {1e3 * p99:5.3f} ms = {p99 / base:.2f} × [{spread}]   "
            f"max {1e3 * max(map(max, found)):5.1f} ms   of {sum(map(len, found))}",
            flush=True,
        )


def main() -> int:
    """Prints the figures; exit code 1 when a scrape takes more than 0.3 s."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    os.environ["DCAO_REDIS_TIMEOUT_SECONDS"] = "5"  # a busy machine is to be measured, not to be given up
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder) / "redis")
        controller = Controller(Path(folder) / "controller", redis_url=redis.url)
        try:
            url, seconds, rounds = controller.url, arguments.seconds, arguments.rounds
            fleet = Fleet(url, arguments.runs)
            if "scrape" in parts:
                slowest = scrapes(url, fleet, arguments.runs)
            if "decisions" in parts:
                rate = arguments.rate
                beside(url, f"{rate:.0f} decisions a second", lambda: fleet.paced(rate, seconds), rounds)
                beside(url, "One decision after the other", lambda: fleet.unpaced(seconds), rounds)
            if "slices" in parts:
                slices(redis.url, arguments.runs)
        finally:
            controller.kill()
            redis.kill()
    return 0 if slowest <= 0.3 else 1


if __name__ == "__main__":
    sys.exit(main())
