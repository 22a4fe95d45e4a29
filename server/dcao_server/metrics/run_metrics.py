"""The live runs' metrics: read from the store at a scrape, kept for a moment, rendered a slice at a time.

Rendering happens on the event loop in slices of a tenth of a millisecond, between requests, and not in a thread: a
thread that computes keeps the interpreter lock for 5 ms at a time, ten times as long as a decision takes in all
(`benchmarks/scrape.py` measures both). A run that did not change since the last scrape is not rendered again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import structlog

from dcao_server.history.codec import UNREADABLE
from dcao_server.metrics.run_exposition import Fleet, RunLines, fleet_text, pieces, run_lines
from dcao_server.metrics.run_pace import Pace
from dcao_server.metrics.run_snapshot import snapshot
from dcao_server.store.contract import ENDED, LiveRun, RunKey, StoredRecord, StoredRun

_log = structlog.get_logger(__name__)


class _Known:
    """What was rendered of a run.

    Nothing here but text: objects that stay from one scrape to the next are what the garbage collector walks, and
    30,000 of them make it walk for 9 ms.
    """

    __slots__ = ("lines", "mark", "scrape")

    def __init__(self) -> None:
        self.mark = ""
        self.lines: RunLines | None = None
        self.scrape = 0


class LiveRuns(Protocol):
    """The part of the store that is read."""

    def live(self, since: float, limit: int) -> AsyncIterator[LiveRun]:
        """Runs that observed something since a time, newest first, with their newest record."""

    async def count_live(self, since: float) -> int:
        """How many there are."""


class RunMetrics:
    """Answers scrapes of the live runs.

    Args:
        store: where the runs are.
        is_stale: whether an active run's observations are overdue at a time.
        max_runs: runs exported at most, those that observed last; the rest is counted as dropped.
        window_seconds: a run is live when it observed something within this time and has not ended.
        cache_seconds: further scrapes within this time get the same answer.
        in_progress: how many requests are being answered now; rendering gives way to them.
    """

    def __init__(
        self,
        store: LiveRuns,
        is_stale: Callable[[StoredRun, float], bool],
        *,
        max_runs: int = 1000,
        window_seconds: float = 3600.0,
        cache_seconds: float = 1.0,
        in_progress: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._is_stale = is_stale
        self._max_runs = max_runs
        self._window = window_seconds
        self._cache_seconds = cache_seconds
        self._in_progress = in_progress
        self._known: dict[RunKey, _Known] = {}
        self._scrape = 0
        self._body: tuple[bytes, ...] = ()
        self._fresh_until = float("-inf")
        self._lock = asyncio.Lock()

    async def text(self) -> bytes:
        """The exposition in one.

        Raises:
            StoreUnavailableError: as `pieces`.
        """
        return b"".join(await self.pieces())

    async def pieces(self) -> tuple[bytes, ...]:
        """The exposition. One scrape reads the store, those that come meanwhile wait for it.

        Raises:
            StoreUnavailableError: the store cannot be read; the scrape fails, which Prometheus shows as `up` 0.
        """
        async with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._body = await self._collect()
                self._fresh_until = time.monotonic() + self._cache_seconds
            return self._body

    async def _collect(self) -> tuple[bytes, ...]:
        started, now = time.perf_counter(), time.time()
        pace = Pace(self._in_progress)
        found, rendered = await self._render(now, pace)
        live = await self._store.count_live(now - self._window) if found >= self._max_runs else found
        readable = [lines for lines in rendered if lines is not None]
        fleet = Fleet(
            regimes=Counter(run.regime for run in readable),
            dropped=max(0, live - found),
            unreadable=len(rendered) - len(readable),
            collect_seconds=time.perf_counter() - started,
            collected_at=now,
        )
        body = [fleet_text(fleet).encode()]
        for piece in pieces(readable):
            body.append(piece)
            await pace.breathe()
        return tuple(body)

    async def _render(self, now: float, pace: Pace) -> tuple[int, list[RunLines | None]]:
        """How many runs the store gave, and the lines of each that has not ended; None of those that cannot be read."""
        found = 0
        rendered = []
        self._scrape += 1
        async for stored, newest in self._store.live(now - self._window, self._max_runs):
            found += 1
            if stored.status not in ENDED:
                rendered.append(self._lines(stored, newest, now))
            await pace.breathe()
        for key in [key for key, known in self._known.items() if known.scrape != self._scrape]:
            del self._known[key]
        return found, rendered

    def _lines(self, stored: StoredRun, newest: StoredRecord | None, now: float) -> RunLines | None:
        """As last time, if the run has not changed."""
        stale = stored.status == "active" and self._is_stale(stored, now)
        mark = f"{stored.attempt} {stored.version} {stored.updated_at!r} {stored.status} {stale} {stored.counts}"
        known = self._known.get(stored.key)
        if known is None:
            known = self._known[stored.key] = _Known()
        if known.mark != mark:
            known.mark, known.lines = mark, _lines(stored, newest, stale=stale)
        known.scrape = self._scrape
        return known.lines


def _lines(stored: StoredRun, newest: StoredRecord | None, *, stale: bool) -> RunLines | None:
    try:
        return run_lines(snapshot(stored, newest, stale=stale))
    except UNREADABLE as error:
        _log.warning(
            "live run left out of the metrics", project=stored.key.project, run=stored.key.run, reason=str(error)
        )
        return None
