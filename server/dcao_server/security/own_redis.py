"""The Redis client for API keys and the audit trail, apart from the store's pool."""

from functools import cached_property
from typing import Any

from dcao_server.settings import Settings


class OwnRedis:
    """Makes its client when it is first used.

    Reading keys must not wait behind decisions for a connection of the store's pool, nor decisions behind it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def client(self) -> Any:
        """redis-py's asyncio client. Imported here: `keys create` into a file needs no Redis."""
        from dcao_server.store.redis_connection import connect

        return connect(self._settings)

    async def close(self) -> None:
        """Closes the client if there is one."""
        if "client" in self.__dict__:
            await self.client.aclose()
            del self.__dict__["client"]
