"""Growth: does a decision get slower, or memory run away, as histories and fleets grow?

    python benchmarks/growth.py [--records 1000,100000,1000000] [--runs 10,1000,10000] [--decisions 3000]
                                [--stores redis,sqlite] [--exports ndjson,csv,parquet]

Histories of each length lie side by side in one store, and decisions on them are taken in turns, so that whatever
disturbs the machine disturbs all alike. Then the longest is exported in every format, and the controller's memory is
watched meanwhile. Then fleets: decisions on random ones of so many runs.
"""

import argparse
import asyncio
import contextlib
import random
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import redis
from load import SPEC, observation
from processes import controller, redis_server
from walker import Walker

from dcao_proto import Observation, RunSpec
from dcao_proto.policy import bind
from dcao_server.history.codec import encode
from dcao_server.runs.identity import digest_of
from dcao_server.settings import Settings
from dcao_server.store import create_store
from dcao_server.store.contract import Backfill, Creation, HistoryStore, RunKey

BATCH = 1000
POLICY = bind(RunSpec.model_validate(SPEC))


async def fill(store: HistoryStore, key: RunKey, count: int) -> None:
    """Gives a run `count` records, in batches as a client's journal would bring them."""
    digest, token = digest_of(POLICY.spec_segment), POLICY.initial_token()
    await store.create(key, Creation(POLICY.spec_segment, digest, token, time.time()))
    seen = Observation.model_validate(observation(0, random.Random(0)))
    decision = POLICY.decide_from_token(seen)
    payload, state = encode(seen, decision, time.time(), backfilled=True), decision.state or token
    for start in range(0, count, BATCH):
        steps = range(start, min(start + BATCH, count))
        entries = tuple((step, payload) for step in steps)
        await store.backfill(key, Backfill(1, digest, entries, steps[-1] + 1, state, time.time()))


async def fill_all(settings: Settings, sizes: dict[RunKey, int], memory: Callable[[], int]) -> dict[RunKey, float]:
    """Bytes of the store per record, run by run."""
    store = create_store(settings)
    await store.open()
    bytes_each = {}
    for key, count in sizes.items():
        before = memory()
        await fill(store, key, count)
        bytes_each[key] = (memory() - before) / count
    await store.close()
    return bytes_each


def _several(text: str) -> list[str]:
    """What an option names, parted by commas; nothing if it is empty."""
    return [part for part in text.split(",") if part]


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    line = next(t for t in Path(f"/proc/{pid}/status").read_text().splitlines() if t.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def watching(pid: int) -> Iterator[list[int]]:
    """Samples a process's memory while the block runs."""
    samples = [rss(pid)]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            samples.append(rss(pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def percentile(values: Sequence[float], share: float) -> float:
    """Of unsorted values, in milliseconds."""
    return sorted(values)[int(len(values) * share)] * 1e3


def histories(
    kind: str, url: str, pid: int, settings: Settings, memory: Callable[[], int], arguments: argparse.Namespace
) -> None:
    """Latency and memory by length of the history; then the exports of the longest."""
    counts = [int(text) for text in _several(arguments.records)]
    sizes = {RunKey("growth", f"run-{count}"): count for count in counts}
    bytes_each = asyncio.run(fill_all(settings, sizes, memory))
    walkers = {count: Walker(url, key, start=count + 10) for key, count in sizes.items()}
    latencies: dict[int, list[float]] = {count: [] for count in counts}
    for walker in walkers.values():
        walker.step()  # learns the state
    for _ in range(arguments.decisions):
        for count, walker in walkers.items():
            latencies[count].append(walker.step())
    base = statistics.median(latencies[counts[0]])
    print(f"\n{kind}: {'records':>10}{'p50 ms':>10}{'p99 ms':>10}{'p50 ratio':>12}{'bytes/record':>14}")
    for key, count in sizes.items():
        p50 = statistics.median(latencies[count])
        print(
            f"{'':{len(kind) + 2}}{count:>10}{p50 * 1e3:>10.3f}{percentile(latencies[count], 0.99):>10.2f}"
            f"{p50 / base:>12.3f}{bytes_each[key]:>14.0f}"
        )
    print(f"controller after that: {rss(pid) / 2**20:.0f} MiB")
    for form in _several(arguments.exports):
        export(url, pid, max(counts), form)


def export(url: str, pid: int, count: int, form: str) -> None:
    """Downloads a whole history and throws it away."""
    address = f"{url}/v1/projects/growth/runs/run-{count}/decisions?format={form}"
    started, received = time.perf_counter(), 0
    with watching(pid) as samples, urllib.request.urlopen(address, timeout=3600) as response:
        while piece := response.read(1 << 16):
            received += len(piece)
    seconds = time.perf_counter() - started
    print(
        f"export of {count} records as {form}: {received / 2**20:.0f} MiB in {seconds:.1f} s; controller's memory "
        f"{samples[0] / 2**20:.0f} MiB before, {max(samples) / 2**20:.0f} MiB at most",
        flush=True,
    )


def fleets(kind: str, url: str, pid: int, memory: Callable[[], int], arguments: argparse.Namespace) -> None:
    """Latency and memory by number of runs."""
    print(f"\n{kind}: {'runs':>10}{'p50 ms':>10}{'p99 ms':>10}{'scrape s':>10}{'store MiB':>12}{'controller MiB':>16}")
    walkers: list[Walker] = []
    noise = random.Random(0)
    for count in [int(text) for text in _several(arguments.runs)]:
        while len(walkers) < count:
            walkers.append(Walker(url, RunKey("fleet", f"run-{len(walkers)}"), start=0, create=True))
            walkers[-1].step()
        latencies = [noise.choice(walkers).step() for _ in range(arguments.decisions)]
        started = time.perf_counter()
        with urllib.request.urlopen(url + "/metrics/runs", timeout=60) as response:
            response.read()
        scrape = time.perf_counter() - started
        print(
            f"{'':{len(kind) + 2}}{count:>10}{percentile(latencies, 0.5):>10.3f}{percentile(latencies, 0.99):>10.2f}"
            f"{scrape:>10.3f}{memory() / 2**20:>12.1f}{rss(pid) / 2**20:>16.0f}",
            flush=True,
        )


def on_redis(arguments: argparse.Namespace) -> None:
    """Histories and fleets in Redis."""
    with redis_server() as (port, _), controller(port, max_records="10000000") as (url, pid, _data):
        settings = Settings(redis_url=f"redis://127.0.0.1:{port}", max_records=10**7, redis_timeout_seconds=30)
        with redis.Redis(port=port) as client:

            def used() -> int:
                return int(client.info("memory")["used_memory"])

            histories("Redis", url, pid, settings, used, arguments)
            fleets("Redis", url, pid, used, arguments)


def on_sqlite(arguments: argparse.Namespace) -> None:
    """Histories and fleets in the embedded store."""
    with controller(None, max_records="10000000") as (url, pid, data):

        def size() -> int:
            return sum(file.stat().st_size for file in data.glob("history.sqlite3*"))

        settings = Settings(data=data, max_records=10**7)
        histories("SQLite", url, pid, settings, size, arguments)
        fleets("SQLite", url, pid, size, arguments)


STORES = {"redis": on_redis, "sqlite": on_sqlite}


def main() -> None:
    """The stores asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", default="1000,100000,1000000")
    parser.add_argument("--runs", default="10,1000,10000", help="sizes of fleets; empty: none")
    parser.add_argument("--decisions", type=int, default=3000)
    parser.add_argument("--stores", default=",".join(STORES))
    parser.add_argument("--exports", default="ndjson,csv,parquet", help="formats of the longest history; empty: none")
    arguments = parser.parse_args()
    for name in _several(arguments.stores):
        STORES[name](arguments)


if __name__ == "__main__":
    main()
