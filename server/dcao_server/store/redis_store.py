"""The store in Redis: one stream per attempt whose entry ID is the step, one hash of meta, one script per write."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from typing import Any

from dcao_proto.message import MAX_ATTEMPT, successor
from dcao_server.ending import end, finish
from dcao_server.store import keys
from dcao_server.store.contract import (
    Append,
    AppendResult,
    AttemptStart,
    Backfill,
    BackfillOutcome,
    Contribution,
    Creation,
    Gathering,
    Head,
    LiveRun,
    Outcome,
    Position,
    Restart,
    RestartResult,
    RunKey,
    Seen,
    StoredRecord,
    StoredRun,
    StoredStatus,
)
from dcao_server.store.redis_bulk import Bulk
from dcao_server.store.redis_check import warn_of_loss
from dcao_server.store.redis_connection import release
from dcao_server.store.redis_errors import away, guarded
from dcao_server.store.redis_index import RedisIndex
from dcao_server.store.redis_lane import Lane
from dcao_server.store.redis_live import RedisLive
from dcao_server.store.redis_reading import RedisReader
from dcao_server.store.redis_rows import parse_attempts, parse_head, places, texts
from dcao_server.store.redis_scripts import Script
from dcao_server.store.redis_tail import Tail
from dcao_server.store.sound import reading
from dcao_server.store.tally import Tally


class RedisStore:
    """HistoryStore in Redis ≥ 6.2: single, Cluster or behind Sentinels, as the client was connected.

    Args:
        client: for everything that answers at once.
        blocking: for the one connection that waits for news.
        lane: for decisions; the client itself if None.
        calm: for what the metrics read and count; the client itself if None.
        retention_seconds: lifetime of a run and of each history after its last write.
        max_records: cap of one attempt's history, about: Redis trims whole nodes of some 100 entries.
    """

    kind = "redis"

    def __init__(
        self,
        client: Any,
        blocking: Any,
        lane: Lane | None = None,
        calm: Lane | None = None,
        *,
        retention_seconds: int,
        max_records: int,
    ) -> None:
        self._client, self._blocking, self._lane = client, blocking, lane
        self._retention, self._max_records = retention_seconds, max_records
        self._hot = client.execute_command if lane is None else lane.execute
        self._append, self._gather = Script(self._hot, "append"), Script(self._hot, "gather")
        cold = client.execute_command
        self._backfill, self._create = Script(cold, "backfill"), Script(cold, "create")
        self._delete, self._end, self._restart = Script(cold, "delete"), Script(cold, "end"), Script(cold, "restart")
        self._annotate, self._ping = Script(cold, "annotate"), Script(cold, "ping")
        self._reader = RedisReader(client)
        self._bulk = Bulk(client, calm, lane)
        self._live = RedisLive(self._bulk)
        self._index = RedisIndex(client, self._bulk, retention_seconds)
        self._tally = Tally(self._index.write)
        self._tail = Tail(blocking, self._reader)
        self._check: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Starts the background writer of the indexes and counts; looks at how Redis is set up."""
        self._tally.start()
        self._check = asyncio.create_task(warn_of_loss(self._client), name="redis-check")

    async def close(self) -> None:
        """Writes what the index still lacks, ends followers, closes the connections."""
        await end(self._check)
        await self._tail.stop()
        await self._tally.stop()
        if self._lane is not None:
            await finish("close the connection of decisions", self._lane.aclose())
        await finish("close the connection of counts", self._bulk.aclose())
        await finish("close the pool", release(self._client))
        await finish("close the connection of followers", release(self._blocking))

    @guarded
    async def ping(self) -> None:
        """What a decision does, on keys of its own: a replica and a full store answer PING as if all were well."""
        await self._ping(*keys.PROBES, keys.PROBE_SECONDS, keys=2)

    @guarded
    async def create(self, key: RunKey, creation: Creation, *, restore: bool = False) -> tuple[StoredRun, bool] | None:
        """The index, then one script: a crash between them, or a full memory, leaves an entry that every reader passes
        over and `gc` removes, and never a run that no listing has."""
        await self._index.announce(key, creation.now)
        made = await self._create(
            keys.meta(key),
            creation.spec,
            creation.digest,
            creation.state,
            repr(creation.now),
            creation.attempt,
            creation.version,
            self._retention,
            "1" if restore else "0",
            keys=1,
        )
        run = await self._reader.get(key) if made != -1 else None
        if run is None:
            await self._index.forget(key.project, [key.run])
            return None
        if made == 0:
            await self._index.place(key, run.created_at)
        return run, made == 1

    @guarded
    async def get(self, key: RunKey) -> StoredRun | None:
        """Two reads: the meta, then the length of the attempt's stream."""
        return await self._reader.get(key)

    @guarded
    async def head(self, key: RunKey) -> Head | None:
        """One read."""
        return parse_head(key, await self._hot("HMGET", keys.meta(key), "dg", "a", "v", "st", "status"))

    @guarded
    async def page(self, project: str, after: tuple[float, str] | None, limit: int) -> list[StoredRun]:
        """From the index; entries whose run has expired are passed over."""
        return await self._reader.page(project, after, limit)

    @guarded
    async def projects(self, after: str, limit: int) -> list[str]:
        """From the index of projects."""
        return await self._reader.projects(after, limit)

    @guarded
    async def end(self, key: RunKey, status: StoredStatus, reason: str | None, now: float) -> StoredRun | None:
        """One script, one read; an ended run leaves the index of active ones."""
        found = await self._end(keys.meta(key), status, reason or "", repr(now), self._retention, keys=1)
        if not found:
            return None
        self._tally.ended(key)
        await self._client.zrem(keys.active_index(key.project), key.run)
        await self._index.touch(key, now)
        return await self._reader.get(key)

    @guarded
    async def annotate(self, key: RunKey, about: str, now: float) -> StoredRun | None:
        """One script, one read."""
        if not await self._annotate(keys.meta(key), about, keys=1):
            return None
        await self._index.touch(key, now)
        return await self._reader.get(key)

    @guarded
    async def delete(self, key: RunKey, now: float) -> bool:
        """The histories first are named by the meta; one that begins meanwhile, or is named no more, expires."""
        starts = await self._client.hget(keys.meta(key), "atts")
        attempts: tuple[AttemptStart, ...] = ()
        with suppress(ValueError):  # a run that is not sound can be deleted too
            attempts = () if starts is None else parse_attempts(starts)
        histories = dict.fromkeys(keys.history(key, start.attempt) for start in attempts)
        existed = await self._delete(
            keys.meta(key), keys.counts(key), *histories, repr(now), keys.TOMBSTONE_SECONDS, keys=2 + len(histories)
        )
        await self.forget(key.project, [key.run])
        await self._index.touch(key, now)
        return bool(existed)

    @guarded
    async def begin_attempt(self, key: RunKey, restart: Restart) -> RestartResult:
        """One script."""
        reply = await self._restart(
            keys.meta(key),
            "" if restart.attempt is None else restart.attempt,
            "" if restart.step is None else restart.step,
            restart.state or "",
            "" if restart.version is None else restart.version,
            restart.digest,
            repr(restart.now),
            self._retention,
            MAX_ATTEMPT,
            keys=1,
        )
        outcome = Outcome(reply[0])
        if outcome in {Outcome.APPENDED, Outcome.REPLAYED}:
            await self._index.touch(key, restart.now)
            return RestartResult(outcome, reply[1], reply[2], texts(key, reply)[0])
        return RestartResult(outcome, *reply[1:])

    async def append(self, key: RunKey, item: Append) -> AppendResult:
        """One script: the hot path's one round trip. Guarded in place, since a wrapper is a hundredth of a decision."""
        try:
            reply = await self._append(
                keys.meta(key),
                keys.history(key, item.attempt),
                item.attempt,
                item.step,
                item.version,
                successor(item.version),
                item.digest,
                item.payload,
                item.state,
                self._retention,
                repr(item.now),
                self._max_records,
                keys=2,
            )
        except Exception as error:
            unavailable = away(error)
            if unavailable is None:
                raise
            raise unavailable from error
        code = reply[0]
        if code == 0:
            self._tally.heard(key, item.now)
            return AppendResult(Outcome.APPENDED, successor(item.version), item.step, item.state)
        if code == 3:
            self._tally.heard(key, item.now)
        return AppendResult(Outcome(code), *places(reply), *texts(key, reply))

    @guarded
    async def gather(self, key: RunKey, item: Contribution) -> Gathering:
        """One script."""
        milliseconds = round(item.quorum_seconds * 1000)
        reply = await self._gather(
            keys.meta(key),
            keys.history(key, item.attempt),
            keys.gathering(key, item.attempt, item.step),
            item.attempt,
            item.step,
            item.digest,
            item.worker,
            item.observation,
            item.quorum,
            milliseconds,
            keys.GATHER_SECONDS + milliseconds // 1000,
            item.most,
            keys=3,
        )
        outcome = Outcome(reply[0])
        if outcome is not Outcome.READY:
            return Gathering(outcome, *places(reply), *texts(key, reply))
        with reading(key):
            pairs = [(reply[i].decode(), reply[i + 1]) for i in range(4, len(reply), 2)]
            return Gathering(outcome, *places(reply), reply[3].decode(), observations=tuple(sorted(pairs)))

    @guarded
    async def backfill(self, key: RunKey, batch: Backfill) -> BackfillOutcome:
        """One script; it rewrites the end of the stream if the entries belong below it."""
        reply = await self._backfill(
            keys.meta(key),
            keys.history(key, batch.attempt),
            batch.attempt,
            batch.digest,
            batch.version,
            batch.state,
            repr(batch.now),
            self._retention,
            self._max_records,
            keys.MAX_REWRITE,
            *(part for entry in batch.entries for part in entry),
            keys=2,
        )
        outcome = Outcome(reply[0])
        if outcome not in {Outcome.APPENDED, Outcome.STALE}:
            return BackfillOutcome(outcome)
        self._tally.heard(key, batch.now)
        stored, replayed, version, last = reply[1:]
        return BackfillOutcome(outcome, stored, replayed, max(version, 0), None if last < 0 else last)

    @guarded
    async def read(self, key: RunKey, after: Position, limit: int) -> list[StoredRecord]:
        """XRANGE over the attempts in order."""
        return await self._reader.read(key, after, limit)

    def follow(self, key: RunKey, after: Position) -> AsyncIterator[StoredRecord]:
        """What is there, then what the replica's one blocking read brings."""
        return self._tail.follow(key, after)

    async def live(self, since: float, limit: int) -> AsyncIterator[LiveRun]:
        """From the index of active runs, a few at a time."""
        await self._tally.flush()
        async for found in self._live.live(since, limit):
            yield found

    @guarded
    async def count_live(self, since: float) -> int:
        """From the index of active runs."""
        return await self._live.count_live(since)

    async def changed(self, since: float | None) -> AsyncIterator[list[RunKey]]:
        """From the indexes, after what this replica has not told them yet."""
        await self._tally.flush()
        async for some in self._live.changed(since):
            yield some

    @guarded
    async def look(self, keys: Sequence[RunKey]) -> dict[RunKey, Seen]:
        """A few at a time."""
        return await self._live.look(keys)

    def tally(self, key: RunKey, names: Iterable[str]) -> None:
        """Remembered, and added in the background."""
        self._tally.count(key, names)

    @guarded
    async def prune(self, key: RunKey, max_records: int) -> int:
        """XTRIM, about."""
        run = await self._reader.get(key)
        removed = 0
        for start in () if run is None else run.attempts:
            stream = keys.history(key, start.attempt)
            removed += await self._client.xtrim(stream, maxlen=max_records, approximate=True)
        return removed

    @guarded
    async def forget(self, project: str, runs: Sequence[str]) -> None:
        """ZREM from both indexes."""
        await self._index.forget(project, runs)

    @guarded
    async def index(self, project: str) -> list[str]:
        """The whole index, by name."""
        return await self._index.runs(project)
