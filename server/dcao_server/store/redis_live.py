"""Reading the live runs from Redis, a few at a time, while decisions go on."""

import heapq
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from dcao_server.store import keys
from dcao_server.store.contract import ENDED, LiveRun, RunKey, Seen, StoredRecord, StoredRun, StoreUnavailableError
from dcao_server.store.redis_bulk import Bulk, Command, few
from dcao_server.store.redis_errors import guarded
from dcao_server.store.redis_reading import named
from dcao_server.store.redis_rows import FIELDS, parse_entries, parse_run, refused
from dcao_server.store.sound import say

NAMES_AT_ONCE = 200
"""Of an index: 50 µs of Redis's time, and as long here."""
RUNS_AT_ONCE = 4
"""Runs read with one pipeline: 40 µs of Redis's time, and as long for the event loop to take the replies apart."""


class RedisLive:
    """Reads live runs. Each is consistent by itself, up to a decision made while it is read.

    Args:
        bulk: the connection.
    """

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self._attempts: dict[RunKey, int] = {}
        """Which attempt owned a run when it was last read, if not the first: its history is asked for with its meta."""

    async def live(self, since: float, limit: int) -> AsyncIterator[LiveRun]:
        """Runs that observed something since a time and have not ended, newest first, with their newest record."""
        restarted: dict[RunKey, int] = {}
        for some in few(islice(_newest_first(await self._active(since, limit)), limit), RUNS_AT_ONCE):
            for run, newest in await self._read(some, 1):
                if run.attempt != 1:
                    restarted[run.key] = run.attempt
                yield run, newest[0] if newest else None
        self._attempts = restarted

    async def count_live(self, since: float) -> int:
        """Entries of the index of active runs since a time."""
        return sum(
            [
                (await self._bulk.send([("ZCOUNT", keys.active_index(project), repr(since), "+inf")]))[0]
                for project in await self._projects()
            ]
        )

    async def changed(self, since: float | None) -> AsyncIterator[list[RunKey]]:
        """From the indexes of each project: observed, changed otherwise, and with None all others by creation."""
        low = "-inf" if since is None else repr(since)
        for project in await self._guarded_projects():
            indexes = [keys.active_index(project), keys.touched_index(project)]
            indexes += [keys.runs_index(project)] if since is None else []
            for index in indexes:
                offset = 0
                while names := await self._names(index, low, offset):
                    offset += len(names)
                    yield [RunKey(project, name.decode()) for name in names]

    @guarded
    async def _guarded_projects(self) -> list[str]:
        return await self._projects()

    @guarded
    async def _names(self, index: str, low: str, offset: int) -> list[bytes]:
        (names,) = await self._bulk.send([("ZREVRANGEBYSCORE", index, "+inf", low, "LIMIT", offset, NAMES_AT_ONCE)])
        return list(names)

    async def look(self, wanted: Sequence[RunKey]) -> dict[RunKey, Seen]:
        """Some runs, ended or not, with their newest two records."""
        found: dict[RunKey, Seen] = {}
        for some in few(wanted, RUNS_AT_ONCE):
            found.update((run.key, (run, newest)) for run, newest in await self._read(some, 2, ended=True))
        return found

    @guarded
    async def _active(self, since: float, limit: int) -> list[tuple[str, list[Any]]]:
        """Each project's part of the index: names and scores in turn, newest first."""
        found = []
        for project in await self._projects():
            index = keys.active_index(project)
            command = ("ZREVRANGEBYSCORE", index, "+inf", repr(since), "WITHSCORES", "LIMIT", 0, limit)
            found.append((project, (await self._bulk.send([command]))[0]))
        return found

    async def _projects(self) -> list[str]:
        (names,) = await self._bulk.send([("ZRANGE", keys.PROJECTS, 0, -1)])
        return named(names)

    @guarded
    async def _read(self, wanted: list[RunKey], records: int, *, ended: bool = False) -> list[Seen]:
        """One round trip; a second one for the runs whose attempt is another than we thought."""
        attempts = [self._attempts.get(key, 1) for key in wanted]
        found = await self._ask(wanted, attempts, records)
        runs = {}
        for key, attempt, (run, newest) in zip(wanted, attempts, found, strict=True):
            if run is None or (run.status in ENDED and not ended):
                continue
            if run.attempt != attempt:
                ((run, newest),) = await self._ask([key], [run.attempt], records)
            if run is not None:
                runs[key] = run, newest
        return list(runs.values())

    async def _ask(
        self, wanted: list[RunKey], attempts: list[int], records: int
    ) -> list[tuple[StoredRun | None, tuple[StoredRecord, ...]]]:
        commands: list[Command] = []
        for key, attempt in zip(wanted, attempts, strict=True):
            history = keys.history(key, attempt)
            commands += [
                ("HMGET", keys.meta(key), *FIELDS),
                ("XLEN", history),
                ("XREVRANGE", history, "+", "-", "COUNT", records),
                ("HGETALL", keys.counts(key)),
            ]
        replies = iter(await self._bulk.send_each(commands))
        return [_parsed(key, attempt, *islice(replies, 4)) for key, attempt in zip(wanted, attempts, strict=True)]


def _parsed(
    key: RunKey, attempt: int, meta: Any, decisions: int, entries: Any, counts: Any
) -> tuple[StoredRun | None, tuple[StoredRecord, ...]]:
    """The run and its newest records; one that is not sound is passed over, and named in the log."""
    try:
        fault = refused(key, meta) or refused(key, decisions) or refused(key, entries)
        if fault is not None:
            raise fault
        run = parse_run(key, meta, decisions)
    except StoreUnavailableError as error:
        say(error.trouble.said)
        return None, ()
    if run is None:
        return None, ()
    known = {} if refused(key, counts) else _mapping(counts)
    occurred = {name.decode(errors="replace"): int(count) for name, count in known.items() if count.isdigit()}
    return run._replace(counts=occurred), tuple(parse_entries(attempt, entries)) if entries else ()


def _mapping(reply: Any) -> dict[bytes, bytes]:
    """A hash: redis-py makes a dict of it, a lane gives names and values in turn."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _newest_first(projects: Iterable[tuple[str, list[Any]]]) -> Iterator[RunKey]:
    """The projects' runs merged as they are asked for: to sort a thousand at once would hold the event loop up."""
    merged = heapq.merge(*(_scored(project, reply) for project, reply in projects), reverse=True)
    return (key for _, key in merged)


def _scored(project: str, reply: list[Any]) -> Iterator[tuple[float, RunKey]]:
    """Names with scores: redis-py makes pairs of them, a lane gives them in turn."""
    pairs = reply if reply and not isinstance(reply[0], bytes) else zip(reply[::2], reply[1::2], strict=True)
    for member, score in pairs:
        for name in named([member]):
            yield float(score), RunKey(project, name)
