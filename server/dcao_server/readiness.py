"""Can the store be used? Asked by probes, from several sides, every few seconds."""

import time
from collections.abc import Callable

from dcao_server.metrics import Metrics
from dcao_server.store.contract import HistoryStore, StoreUnavailableError

CACHE_SECONDS = 1.0


class Readiness:
    """Asks the store at most once a second, however many probes ask us."""

    def __init__(self, store: HistoryStore, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._asked = float("-inf")
        self._reachable = False

    async def reachable(self) -> bool:
        """Whether the store answered lately."""
        if self._clock() - self._asked >= CACHE_SECONDS:
            self._asked = self._clock()
            try:
                with self._metrics.store_call("ping"):
                    await self._store.ping()
                self._reachable = True
            except StoreUnavailableError:
                self._reachable = False
        return self._reachable
