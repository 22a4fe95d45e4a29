"""What a replica remembers of its answers until it tells the store: off the hot path, in batches."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

from dcao_server.ending import LAST_SECONDS, end, finish
from dcao_server.store.contract import RunKey, StoreUnavailableError

ROUND_SECONDS = 1.0
"""Every round tells what was there when it began. A crash loses what two rounds would have told at most; the counts are
for people and alerts, no decision depends on them."""
PORTIONS = 250
"""Into which a round is cut: at one go, the counts of a thousand runs would hold decisions up for 20 ms."""
RUNS_AT_ONCE = 4
"""Told together at least, if there are as many: with Redis one pipeline, in SQLite one transaction."""
MOST_RUNS = 50_000
"""Runs remembered while the store is away; counts of further ones are dropped, so that memory stays bounded."""

Flush = Callable[[dict[RunKey, float], dict[RunKey, Counter[str]]], Awaitable[None]]


class Tally:
    """When each run was last heard of, and how often each outcome and reason occurred in it.

    Args:
        flush: writes both to the store. When it fails, the times are kept for the next flush; the counts are dropped,
            since nobody knows whether they were added, and a count that is too low misleads less than one too high.
    """

    def __init__(self, flush: Flush) -> None:
        self._flush = flush
        self._heard: dict[RunKey, float] = {}
        self._counts: dict[RunKey, Counter[tuple[str, ...]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._telling = asyncio.Lock()

    def heard(self, key: RunKey, now: float) -> None:
        """The run observed something at `now`, in seconds since the epoch."""
        if len(self._heard) < MOST_RUNS:
            self._heard[key] = now

    def ended(self, key: RunKey) -> None:
        """The run is active no more; its counts still are to be written."""
        self._heard.pop(key, None)

    def count(self, key: RunKey, names: Iterable[str]) -> None:
        """Each of these occurred once more."""
        counts = self._counts.get(key)
        if counts is None:
            if len(self._counts) >= MOST_RUNS:
                return
            counts = self._counts[key] = Counter()
        counts[tuple(names)] += 1

    def start(self) -> None:
        """Begins a round every `ROUND_SECONDS` from now on."""
        self._task = asyncio.create_task(self._run(), name="tally")

    async def stop(self) -> None:
        """Flushes a last time and ends; what is being told is not interrupted, or its counts would be lost."""
        self._stopping.set()
        await end(self._task, grace=LAST_SECONDS)
        await finish("last counts", self._last_flush())

    async def _last_flush(self) -> None:
        with contextlib.suppress(StoreUnavailableError):
            await self.flush()

    async def flush(self) -> None:
        """Tells the store what it does not know yet; when it returns, what was counted before the call is there.

        Raises:
            StoreUnavailableError: it cannot be told now.
        """
        keys = self._untold()
        for begin in range(0, len(keys), RUNS_AT_ONCE):
            await self._tell(keys[begin : begin + RUNS_AT_ONCE])

    def _untold(self) -> list[RunKey]:
        return list(self._heard | self._counts)

    async def _tell(self, keys: Sequence[RunKey]) -> None:
        async with self._telling:
            heard = {key: self._heard.pop(key) for key in keys if key in self._heard}
            counts = {key: _apart(self._counts.pop(key)) for key in keys if key in self._counts}
            if not heard and not counts:
                return
            try:
                await self._flush(heard, counts)
            except BaseException:
                self._heard = heard | self._heard
                raise

    async def _run(self) -> None:
        while not self._stopping.is_set():
            keys = self._untold()
            size = max(RUNS_AT_ONCE, -(-len(keys) // PORTIONS))
            ends = asyncio.get_running_loop().time() + ROUND_SECONDS
            with contextlib.suppress(StoreUnavailableError):
                for begin in range(0, len(keys), size):
                    if self._stopping.is_set():
                        break
                    await self._tell(keys[begin : begin + size])
                    await asyncio.sleep(ROUND_SECONDS / PORTIONS)
            await self._pause(ends - asyncio.get_running_loop().time())

    async def _pause(self, seconds: float) -> None:
        """Waits, but not for a store that is being closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stopping.wait()


def _apart(counts: Counter[tuple[str, ...]]) -> Counter[str]:
    """How often each name occurred, from how often each combination did, of which a run has few."""
    apart: Counter[str] = Counter()
    for names, times in counts.items():
        for name in names:
            apart[name] += times
    return apart
