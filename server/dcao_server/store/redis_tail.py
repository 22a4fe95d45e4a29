"""Live records for any number of followers over one blocking connection of the replica."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from dcao_server.ending import end
from dcao_server.store import keys
from dcao_server.store.contract import Position, RunKey, StoredRecord, StoreUnavailableError
from dcao_server.store.redis_connection import BLOCK_SECONDS
from dcao_server.store.redis_errors import guarded
from dcao_server.store.redis_reading import RedisReader
from dcao_server.store.redis_rows import parse_entries

CATCH_UP = 500
RETRY_SECONDS = 1.0
LAST = 2**64 - 1
"""Of the second numbers of stream IDs; ours are 1, but somebody else may have written."""


class Tail:
    """One task waits (XREAD BLOCK) for news of every followed run, and wakes the followers of those that have some.

    A follower reads the records itself, from its own position: so a slow one delays nobody, and nothing is buffered.
    In a cluster one XREAD cannot span slots; there the task asks each run's stream by a pipeline every half second.
    """

    def __init__(self, client: Any, reader: RedisReader) -> None:
        self._client = client
        self._reader = reader
        self._waiting: dict[RunKey, set[asyncio.Event]] = {}
        self._seen: dict[RunKey, Position] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    async def stop(self) -> None:
        """Ends the task and every follower."""
        self._stopped = True
        for events in self._waiting.values():
            for event in events:
                event.set()
        await end(self._task)

    async def follow(self, key: RunKey, after: Position) -> AsyncIterator[StoredRecord]:
        """Records after a position, for ever; ends when the tail is stopped.

        Raises:
            StoreUnavailableError: Redis is away.
        """
        event = asyncio.Event()
        self._waiting.setdefault(key, set()).add(event)
        try:
            while not self._stopped:
                event.clear()
                records = await self._read(key, after)
                for record in records:
                    yield record
                    after = record.position
                if len(records) < CATCH_UP:
                    self._seen[key] = max(self._seen.get(key, after), after)
                    self._ensure_task()
                    await event.wait()
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]
                self._seen.pop(key, None)

    @guarded
    async def _read(self, key: RunKey, after: Position) -> list[StoredRecord]:
        return await self._reader.read(key, after, CATCH_UP)

    def _ensure_task(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="history-tail")

    async def _run(self) -> None:
        while self._waiting and not self._stopped:
            try:
                await self._round()
            except (RedisError, OSError, TimeoutError, StoreUnavailableError):
                self._wake(list(self._waiting))  # they read, and say themselves that the store is away
                await asyncio.sleep(RETRY_SECONDS)

    async def _round(self) -> None:
        """Waits once for news, half a second at most."""
        followed = [key for key in self._waiting if key in self._seen]
        if not followed:
            await asyncio.sleep(BLOCK_SECONDS / 10)
            return
        streams: dict[str, str] = {}
        owners: dict[bytes, tuple[RunKey, int]] = {}
        for key, attempt in zip(followed, await self._reader.attempts(followed), strict=True):
            seen = self._seen.get(key)
            if attempt is None or seen is None:  # the run, or its last follower, has gone meanwhile
                continue
            stream = keys.history(key, attempt)
            streams[stream] = f"{seen.step}-{LAST}" if attempt == seen.attempt and seen.step >= 0 else "0-0"
            owners[stream.encode()] = (key, attempt)
        if not streams:
            await asyncio.sleep(BLOCK_SECONDS)
            return
        foreign = False
        for name, entries in await self._news(streams):
            key, attempt = owners[name]
            records = parse_entries(attempt, entries)
            foreign = foreign or len(records) < len(entries)
            if key in self._seen and records:
                self._seen[key] = max(self._seen[key], records[-1].position)
                self._wake([key])
        if foreign:  # it is news for ever
            await asyncio.sleep(BLOCK_SECONDS)

    async def _news(self, streams: dict[str, str]) -> list[tuple[bytes, Any]]:
        if isinstance(self._client, RedisCluster):
            await asyncio.sleep(BLOCK_SECONDS)
            pipe = self._client.pipeline(transaction=False)
            for stream, seen in streams.items():
                pipe.xrange(stream, f"({seen}", "+", count=1)
            return [(s.encode(), e) for s, e in zip(streams, await pipe.execute(), strict=True)]
        reply = await self._client.xread(streams, count=1, block=int(BLOCK_SECONDS * 1000))
        if not reply:
            return []
        pairs = reply.items() if isinstance(reply, dict) else reply
        return [(name, entries) for name, entries in pairs]

    def _wake(self, followed: list[RunKey]) -> None:
        for key in followed:
            for event in self._waiting.get(key, ()):
                event.set()
