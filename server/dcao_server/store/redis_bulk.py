"""Commands by the thousand that no decision has to wait for: a few at a time, over a connection of their own.

Redis serves one command after the other and a whole pipeline before it turns to the next connection, so the length of
a pipeline is what a decision may have to wait, there and for the event loop here, which packs it and takes its replies
apart. Between two of ours both are free, and none is begun while a decision waits for Redis.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from dcao_server.store.redis_errors import is_foreign
from dcao_server.store.redis_lane import Lane
from dcao_server.store.sound import say

Command = tuple[Any, ...]
T = TypeVar("T")

AT_ONCE = 24
"""Commands sent together: some 40 µs of Redis's time."""
PATIENCE_SECONDS = 0.0003
"""For which a pipeline waits until no decision waits for Redis; under a load that never pauses it goes all the same."""


class Bulk:
    """Sends what is not urgent.

    Args:
        client: a redis-py client, used when there is no lane.
        lane: a connection of its own; None for a cluster.
        first: the connection of the decisions, which come first; None for a cluster.
    """

    def __init__(self, client: Any, lane: Lane | None, first: Lane | None) -> None:
        self._client = client
        self._lane = lane
        self._first = first

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands that are sent together, as Redis gave them or as redis-py arranged them.

        Raises:
            redis.exceptions.RedisError: one of them failed; some may have taken effect.
        """
        replies = await self.send_each(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def send_each(self, commands: Sequence[Command]) -> list[Any]:
        """The same; where a key is to blame, which somebody else wrote, the error is the reply.

        Raises:
            redis.exceptions.RedisError: one of them failed for another reason.
        """
        await self._give_way()
        if self._lane is not None:
            return await self._lane.execute_all(commands)
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and not is_foreign(reply):
                raise reply
        return replies

    async def send_all(self, commands: Iterable[Command]) -> None:
        """Any number of them, a few at a time; replies are dropped, and a key that somebody else wrote is named.

        Raises:
            redis.exceptions.RedisError: one of them failed for another reason; those after it were not sent.
        """
        for some in few(commands, AT_ONCE):
            for command, reply in zip(some, await self.send_each(some), strict=True):
                if isinstance(reply, Exception):
                    say(f"{command[1]}: {reply}")

    async def _give_way(self) -> None:
        if self._first is None:
            return
        clock = asyncio.get_running_loop().time
        until = clock() + PATIENCE_SECONDS
        while self._first.busy and clock() < until:  # noqa: ASYNC110  (an event would cost every decision something)
            await asyncio.sleep(0)
        for _ in range(2):  # a decision that has its reply is finished first
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Closes the connection of its own."""
        if self._lane is not None:
            await self._lane.aclose()


def few(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """The items in lists of `count`, the last one shorter."""
    iterator = iter(items)
    while some := list(islice(iterator, count)):
        yield some
