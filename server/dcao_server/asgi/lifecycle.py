"""Where the process is in its life: serving, draining, stopping."""

import asyncio


class Lifecycle:
    """Read by `/readyz` and by event streams, written by the runner.

    serving → draining (readiness says no, streams end, requests are still served, connections are asked to close) →
    stopping (requests in flight finish).
    """

    def __init__(self) -> None:
        self.draining = False
        self.stopping = asyncio.Event()
        self.streams_end = asyncio.Event()
        """Event streams end when it is set, with a hint to come back: to another replica, if there is one."""

    def drain(self) -> None:
        """Say that no new work should come here."""
        self.draining = True

    def stop(self) -> None:
        """Ask everything that lasts to end."""
        self.draining = True
        self.streams_end.set()
        self.stopping.set()
