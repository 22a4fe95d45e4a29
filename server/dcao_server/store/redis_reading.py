"""Reading runs and histories from Redis."""

from typing import Any

from dcao_server.store import keys
from dcao_server.store.contract import Position, RunKey, StoredRecord, StoredRun
from dcao_server.store.redis_rows import parse_attempts, parse_entries, parse_run


class RedisReader:
    """Reads only. Pipelines are not transactions: each reply is consistent by itself."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def get(self, key: RunKey) -> StoredRun | None:
        """One run."""
        return (await self.get_many([key]))[0]

    async def get_many(self, wanted: list[RunKey]) -> list[StoredRun | None]:
        """Many runs in two round trips."""
        if not wanted:
            return []
        pipe = self._client.pipeline(transaction=False)
        for key in wanted:
            pipe.hgetall(keys.meta(key))
        metas = await pipe.execute()
        pipe = self._client.pipeline(transaction=False)
        for key, meta in zip(wanted, metas, strict=True):
            pipe.xlen(keys.history(key, meta[b"a"].decode() if b"a" in meta else "none"))
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
        found: list[StoredRecord] = []
        for attempt in attempts:
            if attempt < after.attempt or len(found) >= limit:
                continue
            low = f"({after.step}-1" if attempt == after.attempt and after.step >= 0 else "-"
            stream = keys.history(key, attempt)
            entries = await self._client.xrange(stream, low, "+", count=limit - len(found))
            found.extend(parse_entries(attempt, entries))
        return found

    async def attempts(self, wanted: list[RunKey]) -> list[int | None]:
        """The attempt that owns each run, None where there is no such run."""
        pipe = self._client.pipeline(transaction=False)
        for key in wanted:
            pipe.hget(keys.meta(key), "a")
        return [None if attempt is None else int(attempt) for attempt in await pipe.execute()]

    async def projects(self) -> list[str]:
        """Projects that have or had runs, in order of name."""
        return sorted(name.decode() for name in await self._client.smembers(keys.PROJECTS))
