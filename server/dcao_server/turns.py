"""Long work in slices, so that no request keeps the event loop from the others."""

import asyncio
import time

SLICE_SECONDS = 0.003
"""For which work goes on before others get their turn; a decision takes a third of a millisecond."""


class Turn:
    """A place in the event loop that is given up every few milliseconds: `breathe` between pieces of work."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def breathe(self) -> None:
        """Lets the others go on, when this one has had its time."""
        if time.perf_counter() - self._since > SLICE_SECONDS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
