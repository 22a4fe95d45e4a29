"""What a scrape of a thousand live runs costs, and what it costs the decisions that are made meanwhile.

`python -m benchmarks.scrape` starts a real controller on a real Redis, fills it with live runs, and measures

1. the scrape: cold, with every run changed since the last one, and with none changed;
2. the time of decisions of one worker on one connection: without scrapes, and with one every second, five times as many
   as the shipped Prometheus makes;
3. how long the event loop is kept waiting by three ways of rendering the same runs: slices on the loop (what the
   controller does), a thread, all at once; and how long the client library's collectors take for the same samples.
"""

import argparse
import asyncio
import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.components.controller import Controller
from tests.components.redis_server import RedisServer
from tests.components.worker import Worker

from dcao_server.metrics.run_exposition import joined, run_lines
from dcao_server.metrics.run_metrics import RunMetrics
from dcao_server.metrics.run_snapshot import snapshot
from dcao_server.settings import Settings
from dcao_server.store import create_store
from dcao_server.store.contract import StoredRecord, StoredRun

Live = list[tuple[StoredRun, StoredRecord | None]]


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def in_words(seconds: list[float]) -> str:
    """Median, 99th percentile and maximum in milliseconds."""
    return (
        f"p50 {1e3 * statistics.median(seconds):6.2f} ms   p99 {1e3 * percentile(seconds, 0.99):6.2f} ms   "
        f"max {1e3 * max(seconds):6.2f} ms"
    )


def scrape(url: str) -> tuple[float, int]:
    """Seconds and bytes of one scrape."""
    started = time.perf_counter()
    body = httpx.get(f"{url}/metrics/runs", timeout=30).raise_for_status().content
    return time.perf_counter() - started, len(body)


def decide(worker: Worker, url: str, count: int) -> list[float]:
    """Seconds of each of so many decisions, one after the other on one connection."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    took = []
    for _ in range(count):
        worker.probes += 1
        body = json.dumps(worker.observation()).encode()
        started = time.perf_counter()
        connection.request("POST", f"{worker.path}/decisions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        took.append(time.perf_counter() - started)
        assert answer.status == 200, text
        worker.decision = json.loads(text)
    connection.close()
    return took


def under_scrapes(url: str, work: Callable[[], list[float]]) -> tuple[list[float], int]:
    """What the work returns while somebody scrapes every second, and how many scrapes there were."""
    over, scrapes = threading.Event(), 0

    def scraper() -> None:
        nonlocal scrapes
        while not over.wait(1.0):
            scrape(url)
            scrapes += 1

    thread = threading.Thread(target=scraper)
    thread.start()
    try:
        return work(), scrapes
    finally:
        over.set()
        thread.join()


def waits(delays: list[float]) -> str:
    """What something that comes at a random moment waits at most: each delay counts by its length."""
    total, below, p99 = sum(delays), 0.0, 0.0
    for delay in sorted(delays):
        below += delay
        p99 = delay
        if below >= 0.99 * total:
            break
    return f"p99 {1e3 * p99:6.2f} ms   max {1e3 * max(delays):6.2f} ms   in all {1e3 * total:.0f} ms"


async def loop_delays(work: Awaitable[object], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """How late a callback that wants the event loop all the time gets it, while the work goes on.

    With `time.thread_time` as the clock, what else the machine does is left out; work in another thread is too.
    """
    delays: list[float] = []
    task = asyncio.ensure_future(work)
    before = clock()
    while not task.done():
        await asyncio.sleep(0)
        now = clock()
        delays.append(now - before)
        before = now
    await task
    return delays


class Given:
    """Live runs that were read before."""

    def __init__(self, runs: Live) -> None:
        self.runs = runs

    async def live(self, since: float, limit: int) -> Live:
        """All of them."""
        return self.runs

    async def count_live(self, since: float) -> int:
        """How many."""
        return len(self.runs)


def at_once(runs: Live) -> str:
    """The same text without pauses."""
    return "".join(joined([run_lines(snapshot(stored, newest, stale=False)) for stored, newest in runs]))


class Families:
    """The same samples as the client library's collectors have them."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> list[Metric]:
        """All."""
        return self.families


async def rendering(redis_url: str, runs: int) -> None:
    """Three ways of rendering, and the library's."""
    store = create_store(Settings(redis_url=redis_url))  # type: ignore[arg-type]
    await store.open()
    live = await store.live(0, runs)
    await store.close()
    print(f"\nrendering {len(live)} runs: how long the event loop waits")
    metrics = RunMetrics(Given(live), lambda run, now: False, cache_seconds=0)
    print(f"  slices on the loop   {waits(await loop_delays(metrics.text()))}")
    print(f"    when none changed  {waits(await loop_delays(metrics.text()))}")
    metrics = RunMetrics(Given(live), lambda run, now: False, cache_seconds=0)
    print(f"    CPU time only      {waits(await loop_delays(metrics.text(), time.thread_time))}")
    threaded = await loop_delays(asyncio.to_thread(at_once, live))
    print(f"  a thread             {waits(threaded)}")
    started = time.thread_time()
    text = at_once(live)
    print(f"  all at once          {1e3 * (time.thread_time() - started):6.1f} ms of CPU")
    families = list(text_string_to_metric_families(text))
    registry = CollectorRegistry()
    registry.register(Families(families))  # type: ignore[arg-type]
    started = time.thread_time()
    generate_latest(registry)
    took, samples = 1e3 * (time.thread_time() - started), sum(len(family.samples) for family in families)
    print(f"  client library       {took:6.1f} ms of CPU for {samples} samples, made already")


def main() -> int:
    """Prints the figures; exit code 1 when a scrape takes more than 0.3 s."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--decisions", type=int, default=20_000)
    arguments = parser.parse_args()
    os.environ["DCAO_REDIS_TIMEOUT_SECONDS"] = "5"  # a busy machine is to be measured, not to be given up
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder) / "redis")
        controller = Controller(Path(folder) / "controller", redis_url=redis.url)
        try:
            return measure(controller.url, redis.url, arguments.runs, arguments.decisions)
        finally:
            controller.kill()
            redis.kill()


def measure(url: str, redis_url: str, runs: int, decisions: int) -> int:
    """All three."""
    workers = [Worker(url, "bench", f"run-{i:04}", seed=i) for i in range(runs)]
    for worker in workers:
        worker.observe()
    time.sleep(1.1)
    cold, size = scrape(url)
    print(f"scrape of {runs} live runs, {size / 1e6:.1f} MB")
    print(f"  cold                 {1e3 * cold:6.1f} ms")
    changed, unchanged = [], []
    for _ in range(5):
        for worker in workers:
            worker.observe()
        time.sleep(1.1)
        changed.append(scrape(url)[0])
        time.sleep(1.1)
        unchanged.append(scrape(url)[0])
    print(f"  every run changed    {1e3 * statistics.median(changed):6.1f} ms (of {len(changed)})")
    print(f"  no run changed       {1e3 * statistics.median(unchanged):6.1f} ms (of {len(unchanged)})")

    worker = workers[0]
    decide(worker, url, 500)
    # Alternately, so that what else the machine does meets both alike.
    quiet: list[float] = []
    scraped: list[float] = []
    scrapes = 0
    for _ in range(4):
        quiet += decide(worker, url, decisions // 4)
        took, seen = under_scrapes(url, lambda: decide(worker, url, decisions // 4))
        scraped += took
        scrapes += seen
    print(f"\n{decisions} decisions of one worker")
    print(f"  without scrapes      {in_words(quiet)}")
    print(f"  a scrape a second    {in_words(scraped)}   ({scrapes} scrapes)")
    asyncio.run(rendering(redis_url, runs))
    return 0 if max(cold, *changed) <= 0.3 else 1


if __name__ == "__main__":
    sys.exit(main())
