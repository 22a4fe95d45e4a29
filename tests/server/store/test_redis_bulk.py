"""Commands by the thousand over a connection of their own: few at a time, and behind the decisions."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dcao_server.settings import Settings
from dcao_server.store.redis_bulk import AT_ONCE, PATIENCE_SECONDS, Bulk
from dcao_server.store.redis_connection import open_lane
from dcao_server.store.redis_lane import Lane
from tests.components.redis_server import RedisServer


@pytest.fixture
async def lane(redis_server: RedisServer) -> AsyncIterator[Lane]:
    opened = open_lane(Settings(redis_url=redis_server.url, redis_timeout_seconds=10.0))
    assert opened is not None
    yield opened
    await opened.aclose()


async def test_replies_come_in_the_order_of_the_commands(lane: Lane) -> None:
    replies = await asyncio.gather(*(lane.execute_all([("ECHO", f"{i}-{j}") for j in range(5)]) for i in range(20)))
    assert replies == [[f"{i}-{j}".encode() for j in range(5)] for i in range(20)]
    assert await lane.execute_all([]) == []


async def test_a_command_that_fails_fails_its_own_sender_only(lane: Lane) -> None:
    await lane.execute("SET", "text", "abc")
    failing = asyncio.ensure_future(lane.execute_all([("GET", "text"), ("INCR", "text"), ("GET", "text")]))
    other = asyncio.ensure_future(lane.execute_all([("GET", "text")]))
    with pytest.raises(ResponseError, match="not an integer"):
        await failing
    assert await other == [b"abc"]
    assert await lane.execute("ECHO", "in step") == b"in step"


async def test_a_sender_that_goes_away_leaves_the_others_their_replies(lane: Lane) -> None:
    await lane.execute("PING")
    gone = asyncio.ensure_future(lane.execute_all([("ECHO", "a"), ("ECHO", "b")]))
    await asyncio.sleep(0)
    gone.cancel()
    assert await lane.execute_all([("ECHO", "c")]) == [b"c"]


async def test_a_redis_that_is_silent_fails_all_that_wait(redis_server: RedisServer) -> None:
    lane = open_lane(Settings(redis_url=redis_server.url, redis_timeout_seconds=0.2))
    assert lane is not None
    await lane.execute("PING")
    slow = asyncio.ensure_future(lane.execute_all([("BLPOP", "nothing-comes", 2)]))
    await asyncio.sleep(0)
    with pytest.raises(RedisTimeoutError):
        await lane.execute_all([("PING",), ("PING",)])
    with pytest.raises(RedisTimeoutError):
        await slow
    assert await lane.execute_all([("ECHO", "again")]) == [b"again"]  # over a new connection
    await lane.aclose()


class Noted:
    """Takes the place of a lane and notes what it is sent."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.busy = False

    async def execute_all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        self.sizes.append(len(commands))
        return [b"OK"] * len(commands)


async def test_many_commands_are_sent_a_few_at_a_time() -> None:
    noted = Noted()
    await Bulk(None, cast(Lane, noted), None).send_all(("PING",) for _ in range(3 * AT_ONCE + 1))
    assert noted.sizes == [AT_ONCE, AT_ONCE, AT_ONCE, 1]


async def test_nothing_is_sent_while_a_decision_waits_for_redis() -> None:
    noted, decisions = Noted(), Noted()
    decisions.busy = True
    sending = asyncio.ensure_future(Bulk(None, cast(Lane, noted), cast(Lane, decisions)).send([("PING",)]))
    for _ in range(3):
        await asyncio.sleep(0)
        assert noted.sizes == []
    decisions.busy = False
    await sending
    assert noted.sizes == [1]


async def test_a_load_that_never_pauses_does_not_keep_it_waiting_for_ever() -> None:
    noted, decisions = Noted(), Noted()
    decisions.busy = True
    started = asyncio.get_running_loop().time()
    await asyncio.wait_for(Bulk(None, cast(Lane, noted), cast(Lane, decisions)).send([("PING",)]), 5)
    assert asyncio.get_running_loop().time() - started >= PATIENCE_SECONDS
    assert noted.sizes == [1]
