"""Reading runs and histories from Redis."""

from bisect import bisect_left
from typing import Any

from dcao_server.store import keys
from dcao_server.store.contract import Position, RunKey, StoredRecord, StoredRun
from dcao_server.store.redis_rows import FIELDS, parse_attempts, parse_entries, parse_run

LOOKED_AT = 100
"""Attempts whose histories are looked at together."""


class RedisReader:
    """Reads only. Pipelines are not transactions: each reply is consistent by itself."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def get(self, key: RunKey) -> StoredRun | None:
        """One run, with the starts of its attempts."""
        return (await self.get_many([key], (*FIELDS, "atts")))[0]

    async def get_many(self, wanted: list[RunKey], fields: tuple[str, ...] = FIELDS) -> list[StoredRun | None]:
        """Many runs in two round trips."""
        if not wanted:
            return []
        pipe = self._client.pipeline(transaction=False)
        for key in wanted:
            pipe.hmget(keys.meta(key), *fields)
        metas = await pipe.execute()
        pipe = self._client.pipeline(transaction=False)
        for key, meta in zip(wanted, metas, strict=True):
            attempt = meta[FIELDS.index("a")]
            pipe.xlen(keys.history(key, "none" if attempt is None else attempt.decode()))
        lengths = await pipe.execute()
        return [parse_run(key, meta, n) for key, meta, n in zip(wanted, metas, lengths, strict=True)]

    async def page(self, project: str, after: tuple[float, str] | None, limit: int) -> list[StoredRun]:
        """Runs by creation, newest first, and by name backwards among those of one moment."""
        found: list[StoredRun] = []
        while len(found) < limit:
            names = await self._names(project, after, limit)
            if not names:
                break
            after = names[-1]
            runs = await self.get_many([RunKey(project, name) for _, name in names])
            found.extend(run for run in runs if run is not None)
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
            pairs = [(float(score), name.decode()) for name, score in entries]
            names.extend(pair for pair in pairs if after is None or pair < after)
            if len(entries) <= limit:
                break
        return names[:limit]

    async def read(self, key: RunKey, after: Position, limit: int) -> list[StoredRecord]:
        """Records after a position."""
        starts = await self._client.hget(keys.meta(key), "atts")
        if starts is None:
            return []
        attempts = sorted({start.attempt for start in parse_attempts(starts.decode())})
        attempts = attempts[bisect_left(attempts, after.attempt) :]
        found: list[StoredRecord] = []
        for begin in range(0, len(attempts), LOOKED_AT):
            for attempt in await self._not_empty(key, attempts[begin : begin + LOOKED_AT]):
                low = f"({after.step}-1" if attempt == after.attempt and after.step >= 0 else "-"
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
        """The attempt that owns each run, None where there is no such run."""
        pipe = self._client.pipeline(transaction=False)
        for key in wanted:
            pipe.hget(keys.meta(key), "a")
        return [None if attempt is None else int(attempt) for attempt in await pipe.execute()]

    async def projects(self, after: str, limit: int) -> list[str]:
        """From the index of projects."""
        low = f"({after}" if after else "-"
        names = await self._client.zrangebylex(keys.PROJECTS, low, "+", start=0, num=limit)
        return [name.decode() for name in names]
