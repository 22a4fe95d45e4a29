"""The index of runs that observe: written off the hot path, in batches."""

import asyncio
import contextlib
from typing import Any

from redis.exceptions import RedisError

from dcao_server.store import keys
from dcao_server.store.contract import RunKey


class ActiveIndex:
    """Remembers which runs observed something, and tells Redis every few seconds.

    A crash loses at most one interval of it, which the run's next decision makes good.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._dirty: dict[RunKey, float] = {}
        self._task: asyncio.Task[None] | None = None

    def touch(self, key: RunKey, now: float) -> None:
        """A run observed something at `now`, in seconds since the epoch."""
        self._dirty[key] = now

    def start(self) -> None:
        """Starts flushing."""
        self._task = asyncio.create_task(self._run(), name="active-index")

    async def stop(self) -> None:
        """Flushes a last time and ends."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await self.flush()

    async def flush(self) -> None:
        """Writes what was touched since the last flush; on an error it stays remembered."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, {}
        projects: dict[str, dict[str, float]] = {}
        for key, now in dirty.items():
            projects.setdefault(key.project, {})[key.run] = now
        try:
            pipe = self._client.pipeline(transaction=False)
            for project, scores in projects.items():
                pipe.zadd(keys.active_index(project), scores, gt=True)
                # A healed run may be missing from the index of projects and runs; NX keeps what is there.
                pipe.zadd(keys.runs_index(project), scores, nx=True)
                pipe.sadd(keys.PROJECTS, project)
            await pipe.execute()
        except BaseException:
            self._dirty = dirty | self._dirty
            raise

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(keys.ACTIVE_FLUSH_SECONDS)
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await self.flush()
