"""When to try again: after a pause that grows with every failure, with full jitter, or when the controller said."""

import math
import random
import time

FIRST_RETRY, LAST_RETRY = 0.2, 30.0  # s
LONGEST_PAUSE = 300.0  # s; nothing keeps the client away for longer


class Patience:
    """Counts failures in a row and says when the next try is due."""

    def __init__(self) -> None:
        self.failures = 0
        self._retry_at = 0.0
        self._jitter = random.Random()  # noqa: S311  (not a secret; and never the global generator, which is training's)

    @property
    def over(self) -> bool:
        """Whether a try is due."""
        return time.monotonic() >= self._retry_at

    @property
    def left(self) -> float:
        """Seconds until the next try, at least a millisecond."""
        return min(max(self._retry_at - time.monotonic(), 0.001), LONGEST_PAUSE)

    def failed(self, asked: float | None) -> None:
        """Another failure; `asked` is how many seconds the controller wants to be left alone."""
        self.failures += 1
        ceiling = min(FIRST_RETRY * 2.0 ** min(self.failures, 20), LAST_RETRY)
        pause = max(self._jitter.uniform(FIRST_RETRY / 2, ceiling), asked or 0.0)
        self._retry_at = time.monotonic() + (min(pause, LONGEST_PAUSE) if math.isfinite(pause) else LONGEST_PAUSE)

    def succeeded(self) -> None:
        """An answer came."""
        self.failures = 0
