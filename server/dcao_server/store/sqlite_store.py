"""The embedded store: one SQLite file, written by one thread, with the same promises as Redis."""

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from dcao_server.ending import finish
from dcao_server.store import sqlite_history, sqlite_runs, sqlite_schema
from dcao_server.store.contract import (
    Append,
    AppendResult,
    Backfill,
    BackfillOutcome,
    Contribution,
    Creation,
    Gathering,
    Head,
    LiveRun,
    Position,
    Restart,
    RestartResult,
    RunKey,
    Seen,
    StoredRecord,
    StoredRun,
    StoredStatus,
    StoreUnavailableError,
)
from dcao_server.store.sqlite_errors import FAILURES, away
from dcao_server.store.sqlite_schema import open_database
from dcao_server.store.tally import Tally
from dcao_server.store.trouble import TroubleKind

P = ParamSpec("P")
T = TypeVar("T")

POLL_SECONDS = 0.25
"""A follower asks this often; an event of this process's own writes wakes it at once."""
CATCH_UP = 500
PATIENCE_SECONDS, AGAIN_SECONDS = 5.0, 0.02
"""For which, and how often, what is no decision tries again while another process writes."""
REST_SECONDS = 0.002
"""Between two slices of a removal, so that whoever waits for the file gets it."""
NAMES_AT_ONCE = 200
RUNS_AT_ONCE = 8
"""Whose metrics are read, or counts written, in one visit to the thread: 0.2 ms that a decision may have to wait."""


class SqliteStore:
    """HistoryStore in one file. Several processes may share it: every write is one immediate transaction.

    Args:
        path: the file; it and its folder are made when the store opens.
        max_records: cap of one attempt's history.
    """

    kind = "sqlite"

    def __init__(self, path: Path, *, max_records: int) -> None:
        self._path = path
        self._max_records = max_records
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._database: sqlite3.Connection | None = None
        self._closed = False
        self._news: dict[RunKey, set[asyncio.Event]] = {}
        self._tally = Tally(self._write_tally)

    async def open(self) -> None:
        """Opens the file, if that can be done now, and starts the background writer of counts."""
        with contextlib.suppress(StoreUnavailableError):
            await self._call(lambda database: None)
        self._tally.start()

    async def close(self) -> None:
        """Ends followers and closes the file."""
        if self._closed:
            return
        self._closed = True
        self._wake_all()
        await self._tally.stop()
        await finish("close the file", self._in_thread(self._close))
        self._thread.shutdown(wait=False)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    async def _call(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs a function on the database in the store's thread."""

        def work() -> T:
            if self._database is None:
                self._database = open_database(self._path)
            try:
                return function(self._database, *args, **kwargs)
            except FAILURES:
                self._recover()
                raise

        try:
            return await self._in_thread(work)
        except FAILURES as error:
            unavailable = away(error)
            if unavailable is None:
                raise
            raise unavailable from error

    def _recover(self) -> None:
        """A failed transaction is over; after a failed rollback the next call opens the file anew."""
        assert self._database is not None  # noqa: S101  (it has just failed)
        try:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            self._database.execute("SELECT 1 FROM runs LIMIT 1").fetchone()
        except sqlite3.Error:
            self._close()

    async def _write(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same in one transaction that no other writer interrupts."""

        def transaction(database: sqlite3.Connection) -> T:
            database.execute("BEGIN IMMEDIATE")
            try:
                result = function(database, *args, **kwargs)
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
            return result

        return await self._call(transaction)

    async def _patient_write(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`_write`, again and again while another process holds the file; decisions go on in between."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self._write(function, *args, **kwargs)
            except StoreUnavailableError as error:
                if error.trouble.kind is not TroubleKind.LOCKED or time.monotonic() > ends:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)

    async def ping(self) -> None:
        """A write of what is there already, and a read: a full or damaged file answers SELECT 1 all the same."""
        await self._write(sqlite_schema.touch)

    async def create(self, key: RunKey, creation: Creation, *, restore: bool = False) -> tuple[StoredRun, bool] | None:
        """One transaction."""
        return await self._patient_write(sqlite_runs.create, key, creation, restore)

    async def get(self, key: RunKey) -> StoredRun | None:
        """One read."""
        return await self._call(sqlite_runs.get, key)

    async def head(self, key: RunKey) -> Head | None:
        """One read."""
        return await self._call(sqlite_runs.head, key)

    async def page(self, project: str, after: tuple[float, str] | None, limit: int) -> list[StoredRun]:
        """One read."""
        return await self._call(sqlite_runs.page, project, after, limit)

    async def projects(self, after: str, limit: int) -> list[str]:
        """One read."""
        return await self._call(sqlite_runs.projects, after, limit)

    async def end(self, key: RunKey, status: StoredStatus, reason: str | None, now: float) -> StoredRun | None:
        """One transaction."""
        return await self._patient_write(sqlite_runs.end, key, status, reason, now)

    async def annotate(self, key: RunKey, about: str, now: float) -> StoredRun | None:
        """One transaction."""
        return await self._patient_write(sqlite_runs.annotate, key, about, now)

    async def delete(self, key: RunKey, now: float) -> bool:
        """One transaction hides the run and its histories; they are removed in slices."""
        hidden = await self._patient_write(sqlite_runs.hide, key, now)
        if hidden is not None:
            await self._sliced(sqlite_runs.remove_hidden)
        return hidden is not None

    async def begin_attempt(self, key: RunKey, restart: Restart) -> RestartResult:
        """One transaction."""
        return await self._patient_write(sqlite_runs.begin_attempt, key, restart)

    async def append(self, key: RunKey, item: Append) -> AppendResult:
        """One transaction."""
        result = await self._write(sqlite_history.append, key, item, self._max_records)
        self._wake(key)
        return result

    async def gather(self, key: RunKey, item: Contribution) -> Gathering:
        """One transaction."""
        return await self._write(sqlite_history.gather, key, item)

    async def backfill(self, key: RunKey, batch: Backfill) -> BackfillOutcome:
        """One transaction."""
        result = await self._patient_write(sqlite_history.backfill, key, batch, self._max_records)
        self._wake(key)
        return result

    async def read(self, key: RunKey, after: Position, limit: int) -> list[StoredRecord]:
        """One read."""
        return await self._call(sqlite_history.read, key, after, limit)

    async def follow(self, key: RunKey, after: Position) -> AsyncIterator[StoredRecord]:
        """Reads again whenever this process has written, and four times a second for what others have."""
        event = asyncio.Event()
        self._news.setdefault(key, set()).add(event)
        try:
            while not self._closed:
                event.clear()
                records = await self.read(key, after, CATCH_UP)
                for record in records:
                    yield record
                    after = record.position
                if len(records) < CATCH_UP and not self._closed:
                    await _wait(event, POLL_SECONDS)
        finally:
            self._news[key].discard(event)
            if not self._news[key]:
                del self._news[key]

    async def live(self, since: float, limit: int) -> AsyncIterator[LiveRun]:
        """A few runs at each visit to the thread, so that decisions do not wait for all of them."""
        await self._tally.flush()
        ids = await self._call(sqlite_runs.live_ids, since, limit)
        for begin in range(0, len(ids), RUNS_AT_ONCE):
            for found in await self._call(sqlite_runs.live, ids[begin : begin + RUNS_AT_ONCE]):
                yield found

    async def count_live(self, since: float) -> int:
        """One read."""
        return await self._call(sqlite_runs.count_live, since)

    async def changed(self, since: float | None) -> AsyncIterator[list[RunKey]]:
        """A few hundred names at each visit to the thread."""
        after: tuple[float, int] | None = None
        while True:
            some = await self._call(sqlite_runs.changed, since, after, NAMES_AT_ONCE)
            if not some:
                break
            after = some[-1][:2]
            yield [RunKey(project, run) for _, _, project, run in some]
        if since is not None and (others := await self._call(sqlite_runs.gone_or_annotated, since)):
            yield others

    async def look(self, keys: Sequence[RunKey]) -> dict[RunKey, Seen]:
        """A few at each visit to the thread."""
        found: dict[RunKey, Seen] = {}
        for begin in range(0, len(keys), RUNS_AT_ONCE):
            some = await self._call(sqlite_runs.look, keys[begin : begin + RUNS_AT_ONCE])
            found.update((run.key, (run, newest)) for run, newest in some)
        return found

    def tally(self, key: RunKey, names: Iterable[str]) -> None:
        """Remembered, and added in the background."""
        self._tally.count(key, names)

    async def _write_tally(self, _heard: dict[RunKey, float], counts: dict[RunKey, Counter[str]]) -> None:
        """The counts, of a few runs at a time; when a run was heard of is in its own row already."""
        items = list(counts.items())
        for begin in range(0, len(items), RUNS_AT_ONCE):
            await self._write(sqlite_runs.tally, dict(items[begin : begin + RUNS_AT_ONCE]))

    async def prune(self, key: RunKey, max_records: int) -> int:
        """A transaction for each slice; first whatever an interrupted deletion left."""
        await self._sliced(sqlite_runs.remove_hidden)
        return await self._sliced(sqlite_history.prune, key, max_records)

    async def _sliced(
        self, function: Callable[Concatenate[sqlite3.Connection, P], int], *args: P.args, **kwargs: P.kwargs
    ) -> int:
        """Calls a function that removes some rows until it removes none; other writers get in between."""
        total = 0
        while removed := await self._patient_write(function, *args, **kwargs):
            total += removed
            await asyncio.sleep(REST_SECONDS)
        return total

    async def forget(self, project: str, runs: Sequence[str]) -> None:
        """Nothing to do: the index is of the table itself."""

    async def index(self, project: str) -> list[str]:
        """One read."""
        return await self._call(sqlite_runs.index, project)

    def _wake(self, key: RunKey) -> None:
        for event in self._news.get(key, ()):
            event.set()

    def _wake_all(self) -> None:
        for key in self._news:
            self._wake(key)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
