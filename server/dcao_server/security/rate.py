"""A token bucket for each API key, in the memory of this replica.

Shared buckets would cost a Redis round trip for each decision; with n replicas a key therefore gets up to n times its
rate. The limit guards a replica against one client, it does not bill anybody.
"""

import time
from collections.abc import Callable


class RateLimit:
    """Average rate and burst for each key.

    Args:
        rate: requests per second; 0 never limits.
        burst: requests at once.
        clock: seconds, monotonic.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, key_id: str) -> float:
        """0 when the request may pass, and counts it; else seconds until the next one may."""
        if not self._rate:
            return 0.0
        now = self._clock()
        tokens, at = self._buckets.get(key_id, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        if tokens < 1:
            self._buckets[key_id] = (tokens, now)
            return (1 - tokens) / self._rate
        self._buckets[key_id] = (tokens - 1, now)
        return 0.0
