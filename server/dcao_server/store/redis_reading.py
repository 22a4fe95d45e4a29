"""Reading runs and histories from Redis."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

from dcao_server.store import keys
from dcao_server.store.contract import Position, RunKey, StoredRecord, StoredRun, StoreUnavailableError
from dcao_server.store.redis_rows import FIELDS, parse_attempts, parse_entries, parse_run, refused
from dcao_server.store.sound import is_name, passing_over, reading, say

LOOKED_AT = 100
"""Attempts whose histories are looked at together."""


class RedisReader:
    """Reads only. Pipelines are not transactions: each reply is consistent by itself."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def get(self, key: RunKey) -> StoredRun | None:
        """One run, with the starts of its attempts."""
        (run,) = await self.get_many([key], (*FIELDS, "atts"))
        if isinstance(run, StoreUnavailableError):
            raise run
        return run

    async def get_many(
        self, wanted: list[RunKey], fields: tuple[str, ...] = FIELDS
    ) -> list[StoredRun | StoreUnavailableError | None]:
        """Many runs in two round trips; for one that is not sound, what is said of it."""
        if not wanted:
            return []
        pipe = self._client.pipeline(transaction=False)
        for key in wanted:
            pipe.hmget(keys.meta(key), *fields)
        metas = await pipe.execute(raise_on_error=False)
        pipe = self._client.pipeline(transaction=False)
        for key, meta in zip(wanted, metas, strict=True):
            attempt = None if refused(key, meta) else meta[FIELDS.index("a")]
            pipe.xlen(keys.history(key, attempt.decode() if attempt is not None and attempt.isdigit() else "none"))
        lengths = await pipe.execute(raise_on_error=False)
        return [_run(key, meta, n) for key, meta, n in zip(wanted, metas, lengths, strict=True)]

    async def page(self, project: str, after: tuple[float, str] | None, limit: int) -> list[StoredRun]:
        """Runs by creation, newest first, and by name backwards among those of one moment."""
        found: list[StoredRun] = []
        while len(found) < limit:
            names = await self._names(project, after, limit)
            if not names:
                break
            after = names[-1]
            runs = await self.get_many([RunKey(project, name) for _, name in names])
            found.extend(passing_over(runs))
        return found[:limit]

    async def _names(self, project: str, after: tuple[float, str] | None, limit: int) -> list[tuple[float, str]]:
        """The next index entries after one, as (score, name)."""
        names: list[tuple[float, str]] = []
        offset = 0
        top = "+inf" if after is None else repr(after[0])
        while len(names) < limit:
            entries = await self._client.zrevrangebyscore(
                keys.runs_index(project), top, "-inf", start=offset, num=limit + 1, withscores=True
            )
            offset += len(entries)
            pairs = [(float(score), name) for member, score in entries if (name := _name(member)) is not None]
            names.extend(pair for pair in pairs if after is None or pair < after)
            if len(entries) <= limit:
                break
        return names[:limit]

    async def read(self, key: RunKey, after: Position, limit: int) -> list[StoredRecord]:
        """Records after a position."""
        starts = await self._client.hget(keys.meta(key), "atts")
        if starts is None:
            return []
        with reading(key):
            attempts = sorted({start.attempt for start in parse_attempts(starts)})
        attempts = attempts[bisect_left(attempts, after.attempt) :]
        found: list[StoredRecord] = []
        for begin in range(0, len(attempts), LOOKED_AT):
            for attempt in await self._not_empty(key, attempts[begin : begin + LOOKED_AT]):
                # Past all that has this step: foreign entries may share it, and a reader would see them for ever.
                low = str(after.step + 1) if attempt == after.attempt and after.step >= 0 else "-"
                stream = keys.history(key, attempt)
                entries = await self._client.xrange(stream, low, "+", count=limit - len(found))
                found.extend(parse_entries(attempt, entries))
                if len(found) >= limit:
                    return found
        return found

    async def _not_empty(self, key: RunKey, attempts: list[int]) -> list[int]:
        """Those that have a history: of a run that restarted a thousand times most may have none."""
        if len(attempts) == 1:
            return attempts
        pipe = self._client.pipeline(transaction=False)
        for attempt in attempts:
            pipe.xlen(keys.history(key, attempt))
        return [attempt for attempt, length in zip(attempts, await pipe.execute(), strict=True) if length]

    async def attempts(self, wanted: list[RunKey]) -> list[int | None]:
        """The attempt that owns each run, None where there is no such run, or none that is sound."""
        pipe = self._client.pipeline(transaction=False)
        for key in wanted:
            pipe.hget(keys.meta(key), "a")
        replies = await pipe.execute(raise_on_error=False)
        return [
            int(reply) if refused(key, reply) is None and reply is not None and reply.isdigit() else None
            for key, reply in zip(wanted, replies, strict=True)
        ]

    async def projects(self, after: str, limit: int) -> list[str]:
        """From the index of projects."""
        low = b"(" + after.encode() if after else b"-"
        found: list[str] = []
        while len(found) < limit:
            names = await self._client.zrangebylex(keys.PROJECTS, low, b"+", start=0, num=limit)
            found += named(names)
            if len(names) < limit:
                break
            low = b"(" + names[-1]
        return found[:limit]


def named(members: Iterable[bytes]) -> list[str]:
    """The members of an index that are names; the log has each other one once."""
    return [name for name in map(_name, members) if name is not None]


def _name(member: bytes) -> str | None:
    name = member.decode(errors="replace")
    if is_name(name):
        return name
    say(f"{member[:80]!r} in an index is no name")
    return None


def _run(key: RunKey, meta: Any, decisions: Any) -> StoredRun | StoreUnavailableError | None:
    fault = refused(key, meta) or refused(key, decisions)
    try:
        return fault or parse_run(key, meta, decisions)
    except StoreUnavailableError as error:
        return error
