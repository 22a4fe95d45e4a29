"""One connection for all: every reply to its own sender, in whatever company its command was written."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dcao_server.settings import Settings
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


async def test_commands_of_all_kinds_are_answered_in_their_order(lane: Lane) -> None:
    """The first finds the connection idle and is written at once, the others go together."""

    async def one(*command: str) -> bytes:
        return await lane.execute(*command)

    await lane.execute("SET", "text", "")
    two = lane.execute_all([("APPEND", "text", "b"), ("APPEND", "text", "c")])
    replies = await asyncio.gather(one("APPEND", "text", "a"), two, one("APPEND", "text", "d"), one("GET", "text"))
    assert replies == [1, [2, 3], 4, b"abcd"]


async def test_commands_sent_while_another_waits_arrive_together(lane: Lane) -> None:
    """Redis counts what its sockets were asked to read."""

    async def reads() -> int:
        information = (await lane.execute("INFO", "stats")).decode()
        return int(information.split("total_reads_processed:")[1].split()[0])

    before = await reads()
    await asyncio.gather(*(lane.execute("PING") for _ in range(50)))
    assert await reads() - before <= 5  # the first, the others in one or two, and INFO


async def test_what_was_not_written_when_the_connection_broke_fails_and_is_never_sent(lane: Lane) -> None:
    await lane.execute("SET", "count", 0)
    waiting = [asyncio.ensure_future(lane.execute("INCR", "count")) for _ in range(3)]
    assert lane._protocol is not None
    lane._protocol.fail(RedisConnectionError("broken on purpose"))
    for one in waiting:
        with pytest.raises(RedisConnectionError):
            await one
    assert int(await lane.execute("GET", "count")) <= 1  # the first was written at once


async def test_a_redis_that_became_a_replica_is_left(lane: Lane) -> None:
    await lane.execute("REPLICAOF", "127.0.0.1", "1")
    first = lane._protocol
    with pytest.raises(ReadOnlyError):
        await lane.execute("SET", "text", "abc")
    assert await lane.execute("REPLICAOF", "NO", "ONE") == b"OK"
    assert lane._protocol is not first
    assert await lane.execute("SET", "text", "abc") == b"OK"
