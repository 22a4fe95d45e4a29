"""What a replica remembers of its answers until it tells the store: off the hot path, in batches."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

from dcao_server.store.contract import RunKey, StoreUnavailableError

FLUSH_SECONDS = 2.0
"""A crash loses so much of the counts at most; they are for people and alerts, no decision depends on them."""
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
        self._counts: dict[RunKey, Counter[str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._flushing = asyncio.Lock()

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
        for name in names:
            counts[name] += 1

    def start(self) -> None:
        """Flushes every `FLUSH_SECONDS` from now on."""
        self._task = asyncio.create_task(self._run(), name="tally")

    async def stop(self) -> None:
        """Flushes a last time and ends; a flush that is under way is not interrupted, or its counts would be lost."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        with contextlib.suppress(StoreUnavailableError):
            await self.flush()

    async def flush(self) -> None:
        """Tells the store what it does not know yet; when it returns, what was counted before the call is there.

        Raises:
            StoreUnavailableError: it cannot be told now.
        """
        async with self._flushing:
            if not self._heard and not self._counts:
                return
            heard, self._heard = self._heard, {}
            counts, self._counts = self._counts, {}
            try:
                await self._flush(heard, counts)
            except BaseException:
                self._heard = heard | self._heard
                raise

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._stopping.wait()
            with contextlib.suppress(StoreUnavailableError):
                await self.flush()
