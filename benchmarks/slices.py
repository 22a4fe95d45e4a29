"""How long the event loop is kept at a time by the ways of reading and rendering live runs."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import uvloop
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dcao_server.asgi.runner import GC_THRESHOLD
from dcao_server.metrics.run_exposition import pieces, run_lines
from dcao_server.metrics.run_metrics import RunMetrics
from dcao_server.metrics.run_snapshot import snapshot
from dcao_server.settings import Settings
from dcao_server.store import create_store
from dcao_server.store.contract import LiveRun


def in_words(kept: list[float]) -> str:
    """What something that comes at a random moment waits at most (stretches count by length), and the longest."""
    total, below, p99 = sum(kept), 0.0, 0.0
    for stretch in sorted(kept):
        below += stretch
        p99 = stretch
        if below >= 0.99 * total:
            break
    return f"p99 {1e3 * p99:6.2f} ms   max {1e3 * max(kept):6.2f} ms   in all {1e3 * total:.0f} ms"


async def kept(work: Awaitable[object], clock: Callable[[], float] = time.thread_time) -> list[float]:
    """Seconds between two turns of a callback that wants the event loop all the time, while the work goes on.

    With `time.thread_time` as the clock, what else the machine does is left out, and so is work in another thread.
    """
    stretches: list[float] = []
    task = asyncio.ensure_future(work)
    before = clock()
    while not task.done():
        await asyncio.sleep(0)
        now = clock()
        stretches.append(now - before)
        before = now
    await task
    return stretches


class Given:
    """Live runs that were read before."""

    def __init__(self, runs: list[LiveRun]) -> None:
        self.runs = runs

    async def live(self, since: float, limit: int) -> AsyncIterator[LiveRun]:
        """All of them."""
        for run in self.runs:
            yield run

    async def count_live(self, since: float) -> int:
        """How many."""
        return len(self.runs)


class Families:
    """The same samples as the client library's collectors have them."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> list[Metric]:
        """All."""
        return self.families


def at_once(runs: list[LiveRun]) -> bytes:
    """The same text without pauses."""
    return b"".join(pieces([run_lines(snapshot(stored, newest, stale=False)) for stored, newest in runs]))


async def measure(redis_url: str, runs: int) -> None:
    """Reading, three ways of rendering, and the library's."""
    store = create_store(Settings(redis_url=redis_url))  # type: ignore[arg-type]
    await store.open()
    live = [run async for run in store.live(0, runs)]

    async def read() -> None:
        async for _ in store.live(0, runs):
            pass

    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    print(f"\n{len(live)} runs: how long the event loop is kept at a time, CPU time")
    print(f"  reading                {in_words(await kept(read()))}")
    await store.close()
    at_once(live[:1])  # a controller has met the specification at the first decision
    metrics = RunMetrics(Given(live), lambda run, now: False, cache_seconds=0)
    print(f"  rendering in slices    {in_words(await kept(metrics.pieces()))}")
    print(f"    when none changed    {in_words(await kept(metrics.pieces()))}")
    threaded = await kept(asyncio.to_thread(at_once, live), time.perf_counter)
    print(f"  in a thread (by clock) {in_words(threaded)}")
    started = time.thread_time()
    text = at_once(live)
    print(f"  all at once            {1e3 * (time.thread_time() - started):6.1f} ms")
    families = list(text_string_to_metric_families(text.decode()))
    registry = CollectorRegistry()
    registry.register(Families(families))  # type: ignore[arg-type]
    started = time.thread_time()
    generate_latest(registry)
    took, samples = 1e3 * (time.thread_time() - started), sum(len(family.samples) for family in families)
    print(f"  the client library     {took:6.1f} ms for {samples} samples, made already")


def slices(redis_url: str, runs: int) -> None:
    """Prints the table, on the event loop that the controller runs on."""
    uvloop.run(measure(redis_url, runs))
