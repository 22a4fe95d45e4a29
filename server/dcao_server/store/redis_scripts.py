"""The Lua scripts, called by digest."""

import hashlib
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError


class Script:
    """One script. Redis may forget it (restart, failover): then it is sent again, whole, once."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._text = files("dcao_server.store").joinpath("lua", f"{name}.lua").read_bytes()
        self._sha = hashlib.sha1(self._text, usedforsecurity=False).hexdigest()  # the name Redis gives it

    async def __call__(self, *keys_and_args: Any, keys: int) -> Any:
        """Runs it on `keys` keys, which come first."""
        try:
            return await self._client.execute_command("EVALSHA", self._sha, keys, *keys_and_args)
        except NoScriptError:
            return await self._client.execute_command("EVAL", self._text, keys, *keys_and_args)
