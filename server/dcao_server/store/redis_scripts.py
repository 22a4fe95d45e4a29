"""The Lua scripts, called by digest."""

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

Execute = Callable[..., Awaitable[Any]]


class Script:
    """One script. Redis may forget it (restart, failover): then it is sent again, whole, once.

    Args:
        execute: sends one command and gives its reply.
        name: of the file under `lua/`.
    """

    def __init__(self, execute: Execute, name: str) -> None:
        self._execute = execute
        folder = files("dcao_server.store").joinpath("lua")
        self._text = b"".join(folder.joinpath(f"{part}.lua").read_bytes() for part in ("prelude", name))
        self._sha = hashlib.sha1(self._text, usedforsecurity=False).hexdigest()  # the name Redis gives it

    async def __call__(self, *keys_and_args: Any, keys: int) -> Any:
        """Runs it on `keys` keys, which come first. Numbers are sent as decimal text."""
        try:
            return await self._execute("EVALSHA", self._sha, keys, *keys_and_args)
        except NoScriptError:
            return await self._execute("EVAL", self._text, keys, *keys_and_args)
