"""The indexes in Redis: which projects and runs there are, which of them observe, and how often what occurred."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dcao_server.store import keys
from dcao_server.store.contract import RunKey
from dcao_server.store.redis_errors import guarded


class RedisIndex:
    """Index keys lie in other slots than the runs, so they are written apart from them and may lag behind.

    Args:
        client: a redis-py client.
        retention_seconds: lifetime of a run's counts.
    """

    def __init__(self, client: Any, retention_seconds: int) -> None:
        self._client = client
        self._retention = retention_seconds

    async def add(self, key: RunKey, created_at: float) -> None:
        """A run exists; its place in listings is its creation."""
        pipe = self._client.pipeline(transaction=False)
        pipe.sadd(keys.PROJECTS, key.project)
        pipe.zadd(keys.runs_index(key.project), {key.run: created_at})
        await pipe.execute()

    @guarded
    async def write(self, heard: dict[RunKey, float], counts: dict[RunKey, Counter[str]]) -> None:
        """When runs were last heard of, and what occurred in each since the last call, in one pipeline."""
        pipe = self._client.pipeline(transaction=False)
        projects: dict[str, dict[str, float]] = {}
        for key, now in heard.items():
            projects.setdefault(key.project, {})[key.run] = now
        for project, scores in projects.items():
            pipe.zadd(keys.active_index(project), scores, gt=True)
            # A crash may have left a run out of the index of runs; NX keeps the entry that is there.
            pipe.zadd(keys.runs_index(project), scores, nx=True)
            pipe.sadd(keys.PROJECTS, project)
        for key, names in counts.items():
            for name, count in names.items():
                pipe.hincrby(keys.counts(key), name, count)
            pipe.expire(keys.counts(key), self._retention)
        await pipe.execute()

    async def projects(self) -> list[str]:
        """From the set of projects."""
        return sorted(name.decode() for name in await self._client.smembers(keys.PROJECTS))

    async def runs(self, project: str) -> list[str]:
        """The whole index of a project, by name."""
        return sorted(name.decode() for name in await self._client.zrange(keys.runs_index(project), 0, -1))

    async def forget(self, project: str, runs: Sequence[str]) -> None:
        """ZREM from both indexes."""
        if runs:
            pipe = self._client.pipeline(transaction=False)
            pipe.zrem(keys.runs_index(project), *runs)
            pipe.zrem(keys.active_index(project), *runs)
            await pipe.execute()
