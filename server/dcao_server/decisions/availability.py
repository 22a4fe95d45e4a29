"""Remembers that the store is away, so that not every request waits for its timeout to learn it."""

import time
from collections.abc import Callable

FAILURES = 3
PAUSE_SECONDS = 0.5


class Availability:
    """A circuit breaker: after `FAILURES` in a row the store is left alone, but for one call every `PAUSE_SECONDS`.

    A worker waits a quarter of a second for a decision; a store that swallows packets would use all of it up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._next_try = 0.0

    def worth_trying(self) -> bool:
        """Whether to call the store now. When it is away, one caller in a while gets a yes."""
        if self._failures < FAILURES:
            return True
        now = self._clock()
        if now < self._next_try:
            return False
        self._next_try = now + PAUSE_SECONDS
        return True

    def succeeded(self) -> None:
        """The store answered."""
        self._failures = 0

    def failed(self) -> None:
        """The store did not answer."""
        self._failures += 1
        self._next_try = self._clock() + PAUSE_SECONDS
