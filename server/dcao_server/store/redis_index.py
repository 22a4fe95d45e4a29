"""The indexes in Redis: which projects and runs there are, which of them observe, and how often what occurred."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from dcao_server.store import keys
from dcao_server.store.contract import RunKey
from dcao_server.store.redis_bulk import Bulk, Command, few
from dcao_server.store.redis_errors import guarded
from dcao_server.store.redis_reading import named

MEMBERS = 4
"""Members that one ZADD sets: it is one of `redis_bulk.AT_ONCE` commands of a pipeline."""


class RedisIndex:
    """Index keys lie in other slots than the runs, so they are written apart from them and may lag behind.

    Args:
        client: a redis-py client.
        bulk: for the writes of the background.
        retention_seconds: lifetime of a run's counts.
    """

    def __init__(self, client: Any, bulk: Bulk, retention_seconds: int) -> None:
        self._client = client
        self._bulk = bulk
        self._retention = retention_seconds

    async def announce(self, key: RunKey, now: float) -> None:
        """A run is about to be created; a place that it has already stays."""
        pipe = self._client.pipeline(transaction=False)
        pipe.zadd(keys.PROJECTS, {key.project: 0})
        pipe.zadd(keys.runs_index(key.project), {key.run: now}, nx=True)
        self._touched(pipe, key, now)
        await pipe.execute()

    async def touch(self, key: RunKey, now: float) -> None:
        """Something other than a decision happened to a run, for those who look at what has changed."""
        pipe = self._client.pipeline(transaction=False)
        self._touched(pipe, key, now)
        await pipe.execute()

    def _touched(self, pipe: Any, key: RunKey, now: float) -> None:
        touched = keys.touched_index(key.project)
        pipe.zadd(touched, {key.run: now})
        pipe.zremrangebyscore(touched, "-inf", now - keys.TOUCHED_SECONDS)
        pipe.expire(touched, keys.TOUCHED_SECONDS)

    async def place(self, key: RunKey, created_at: float) -> None:
        """The run's place in listings is its creation, whatever a repair has put there."""
        await self._client.zadd(keys.runs_index(key.project), {key.run: created_at}, xx=True)

    @guarded
    async def write(self, heard: dict[RunKey, float], counts: dict[RunKey, Counter[str]]) -> None:
        """When runs were last heard of, and what occurred in each since the last call: no decision waits for it."""
        await self._bulk.send_all(chain(self._times(heard), self._occurrences(counts)))

    def _times(self, heard: dict[RunKey, float]) -> Iterator[Command]:
        projects: dict[str, list[tuple[float, str]]] = {}
        for (project, run), now in heard.items():
            projects.setdefault(project, []).append((now, run))
        for project, runs in projects.items():
            yield "ZADD", keys.PROJECTS, 0, project
            for some in few(runs, MEMBERS):
                scores = [part for now, run in some for part in (repr(now), run)]
                yield "ZADD", keys.active_index(project), "GT", *scores
                # A crash may have left a run out of the index of runs; NX keeps the entry that is there.
                yield "ZADD", keys.runs_index(project), "NX", *scores

    def _occurrences(self, counts: dict[RunKey, Counter[str]]) -> Iterator[Command]:
        for key, names in counts.items():
            for name, count in names.items():
                yield "HINCRBY", keys.counts(key), name, count
            yield "EXPIRE", keys.counts(key), self._retention

    async def runs(self, project: str) -> list[str]:
        """The whole index of a project, by name."""
        return sorted(named(await self._client.zrange(keys.runs_index(project), 0, -1)))

    async def forget(self, project: str, runs: Sequence[str]) -> None:
        """ZREM from both indexes; of a project without runs too. One that gets a run meanwhile is back at its first
        decision, as after a crash."""
        if runs:
            pipe = self._client.pipeline(transaction=False)
            pipe.zrem(keys.runs_index(project), *runs)
            pipe.zrem(keys.active_index(project), *runs)
            await pipe.execute()
        if not await self._client.exists(keys.runs_index(project)):
            await self._client.zrem(keys.PROJECTS, project)
