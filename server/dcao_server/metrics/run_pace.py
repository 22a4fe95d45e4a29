"""How work that can wait shares the event loop with requests: in short slices, while none is being answered."""

import asyncio
import time
from collections.abc import Callable


class Pace:
    """The pauses of one piece of such work.

    A request that is being answered waits for Redis for part of its time, and a slice begun then would keep it from
    going on when the reply is there. So work resumes when no request is in progress. Those that stay (event streams,
    exports) are told from those that come and go by the fewest that were seen. Under a load that never pauses the
    patience comes to an end, and the work is done between the requests all the same.

    Args:
        in_progress: how many requests are being answered now, the one that does this work included.
        slice_seconds: how long the event loop may be kept at a time.
        patience_seconds: how long to wait for quiet in all.
    """

    def __init__(
        self, in_progress: Callable[[], int], *, slice_seconds: float = 0.0001, patience_seconds: float = 0.1
    ) -> None:
        self._in_progress = in_progress
        self._slice = slice_seconds
        self._patience = patience_seconds
        self._fewest = in_progress()
        self._resumed = time.perf_counter()

    async def breathe(self) -> None:
        """Gives way if the slice is used up."""
        if time.perf_counter() - self._resumed >= self._slice:
            await self.give_way()

    async def give_way(self) -> None:
        """Returns when no request is in progress, or the patience is over."""
        await asyncio.sleep(0)  # what has arrived meanwhile is read
        await asyncio.sleep(0)  # and begun
        paused = now = time.perf_counter()
        while self._busy() and now - paused < self._patience:
            await asyncio.sleep(0)
            now = time.perf_counter()
        self._patience -= now - paused
        self._resumed = now

    def _busy(self) -> bool:
        count = self._in_progress()
        self._fewest = min(self._fewest, count)
        return count > self._fewest
