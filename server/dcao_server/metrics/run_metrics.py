"""The live runs' metrics: read from the store at a scrape, kept for a moment, rendered a slice at a time.

Rendering happens on the event loop in slices of a tenth of a millisecond, between requests, and not in a thread: a
thread that computes keeps the interpreter lock for 5 ms at a time, ten times as long as a decision takes in all
(`benchmarks/scrape.py` measures both). A run that did not change since the last scrape is not rendered again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import structlog

from dcao_server.metrics.run_exposition import Fleet, RunLines, fleet_text, pieces, run_lines
from dcao_server.metrics.run_pace import Pace
from dcao_server.metrics.run_snapshot import snapshot
from dcao_server.store.contract import RunKey, StoredRecord, StoredRun

_log = structlog.get_logger(__name__)

LiveRun = tuple[StoredRun, StoredRecord | None]
ENDED = frozenset({"finished", "failed"})


class LiveRuns(Protocol):
    """The part of the store that is read."""

    async def live(self, since: float, limit: int) -> list[LiveRun]:
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
        self._memo: dict[RunKey, tuple[Hashable, RunLines | None]] = {}
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
        found = await self._store.live(now - self._window, self._max_runs)
        live = await self._store.count_live(now - self._window) if len(found) >= self._max_runs else len(found)
        kept = [run for run in found if run[0].status not in ENDED]
        pace = Pace(self._in_progress)
        rendered = await self._render(kept, now, pace)
        fleet = Fleet(
            regimes=Counter(run.regime for run in rendered),
            dropped=max(0, live - len(found)),
            unreadable=len(kept) - len(rendered),
            collect_seconds=time.perf_counter() - started,
            collected_at=now,
        )
        body = [fleet_text(fleet).encode()]
        for piece in pieces(rendered):
            body.append(piece)
            await pace.give_way()
        return tuple(body)

    async def _render(self, runs: Sequence[LiveRun], now: float, pace: Pace) -> list[RunLines]:
        """The lines of each run; None of those that cannot be read."""
        memo: dict[RunKey, tuple[Hashable, RunLines | None]] = {}
        for stored, newest in runs:
            stale = stored.status == "active" and self._is_stale(stored, now)
            mark = (
                stored.attempt,
                stored.version,
                stored.updated_at,
                stored.status,
                stale,
                tuple(stored.counts.items()),
            )
            known = self._memo.get(stored.key)
            lines = known[1] if known is not None and known[0] == mark else _lines(stored, newest, stale=stale)
            memo[stored.key] = (mark, lines)
            await pace.breathe()
        self._memo = memo
        return [lines for _, lines in memo.values() if lines is not None]


def _lines(stored: StoredRun, newest: StoredRecord | None, *, stale: bool) -> RunLines | None:
    try:
        return run_lines(snapshot(stored, newest, stale=stale))
    except ValueError as error:
        _log.warning(
            "live run left out of the metrics", project=stored.key.project, run=stored.key.run, reason=str(error)
        )
        return None
