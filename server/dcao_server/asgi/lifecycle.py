"""Where the process is in its life: serving, draining, stopping."""

import asyncio


class Lifecycle:
    """Read by `/readyz` and by event streams, written by the runner.

    serving → draining (readiness says no, requests are still served, connections are asked to close) → stopping
    (streams end, requests in flight finish).
    """

    def __init__(self) -> None:
        self.draining = False
        self.stopping = asyncio.Event()
        """Event streams end when it is set: a server that waits for them would never stop."""

    def drain(self) -> None:
        """Say that no new work should come here."""
        self.draining = True

    def stop(self) -> None:
        """Ask everything that lasts to end."""
        self.draining = True
        self.stopping.set()
