"""A long answer to somebody whose key may be revoked meanwhile."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect

from dcao_server.asgi.envelope import STILL
from dcao_server.settings import Settings


async def _always() -> bool:
    return True


class Rights:
    """Whether the caller still may have what is being sent; asked now and then.

    Args:
        still: asks the keys in force.
        every: seconds between two questions.
    """

    def __init__(self, still: Callable[[], Awaitable[bool]] = _always, every: float = 5.0) -> None:
        self.every = every
        self._still = still
        self._asked = time.monotonic()

    async def hold(self) -> bool:
        """As asked last, or now if that is too long ago."""
        now = time.monotonic()
        if now - self._asked < self.every:
            return True
        self._asked = now
        return await self._still()


def rights_of(scope: Any, settings: Settings) -> Rights:
    """Those of a request; asked as often as keys are read."""
    return Rights(scope.get(STILL, _always), settings.api_keys_refresh_seconds)


async def while_allowed(content: AsyncIterator[bytes], rights: Rights) -> AsyncIterator[bytes]:
    """A download that breaks off, as if the connection had, when the caller may not have the rest."""
    async for piece in content:
        if not await rights.hold():
            raise ClientDisconnect()
        yield piece
