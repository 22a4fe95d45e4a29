"""The process ends in bounded time, whatever becomes of a cancellation."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from dcao_server import ending
from dcao_server.app import create_app
from dcao_server.ending import end, finish
from dcao_server.security.audit import AuditEvent, AuditTrail
from dcao_server.security.audit_sinks import AuditInRedis
from dcao_server.security.own_redis import OwnRedis
from dcao_server.settings import Settings
from dcao_server.store.contract import START, RunKey
from dcao_server.store.redis_connection import open_lane
from dcao_server.store.tally import Tally
from tests.components.redis_server import RedisServer


async def stubborn(times: int) -> None:
    """Swallows that many cancellations."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            times -= 1
            if times < 0:
                raise


async def within(last: Coroutine[Any, Any, None], seconds: float) -> None:
    """Fails when it takes longer. Not `wait_for`: its own cancellation would end what hangs, as if nothing had been."""
    task = asyncio.create_task(last)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        await end(task)
        pytest.fail(f"did not end within {seconds} s")
    await task


async def started(times: int) -> "asyncio.Task[None]":
    task = asyncio.create_task(stubborn(times))
    await asyncio.sleep(0)
    return task


async def test_a_swallowed_cancellation_is_repeated() -> None:
    task = await started(2)
    await within(end(None, task), 5)
    assert task.cancelled()


async def test_what_never_ends_is_given_up_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    task = await started(ending.CANCELLATIONS)
    task.set_name("the stubborn one")
    begun = time.monotonic()
    await end(task)
    assert time.monotonic() - begun < ending.CANCELLATIONS * ending.CANCEL_SECONDS + 2
    assert not task.done()
    assert "the stubborn one" in "".join(capsys.readouterr())
    await end(task)
    assert task.cancelled()


async def test_a_last_thing_that_fails_or_hangs_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        raise OSError("no")

    monkeypatch.setattr(ending, "LAST_SECONDS", 0.1)
    await finish("fails", fails())
    await within(finish("hangs", stubborn(1)), 5)


class Sink:
    """Writes as redis-py does under Python 3.11: a cancellation in the turn in which the write ends is swallowed."""

    def __init__(self) -> None:
        self.written: list[AuditEvent] = []
        self.writing = asyncio.Event()
        self.delay = 0.2

    async def write(self, events: list[AuditEvent]) -> None:
        self.writing.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(self.delay)
        self.written += events


async def test_an_audit_trail_ends_in_the_middle_of_a_write_and_loses_nothing() -> None:
    sink = Sink()
    trail = AuditTrail(sink, flush_seconds=0.01)

    async def life() -> None:
        async with trail.running():
            trail.note(AuditEvent(event="changed", path="/first"))
            await sink.writing.wait()
            trail.note(AuditEvent(event="changed", path="/second"))

    await within(life(), 10)
    assert [event.path for event in sink.written] == ["/first", "/second"]


async def test_the_end_may_come_in_the_turn_in_which_redis_has_been_written_to(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where redis-py under Python 3.11 swallows a cancellation; the trail then went on for ever."""
    written = asyncio.Event()
    write = Connection._send_packed_command

    async def write_and_tell(self: Connection, command: Iterable[bytes]) -> None:
        await write(self, command)
        written.set()

    redis = OwnRedis(Settings(redis_url=redis_server.url))
    await redis.client.ping()
    trail = AuditTrail(AuditInRedis(redis, 100), flush_seconds=0.01)

    async def life() -> None:
        async with trail.running():
            monkeypatch.setattr(Connection, "_send_packed_command", write_and_tell)
            trail.note(AuditEvent(event="changed"))
            await written.wait()

    try:
        await within(life(), 5)
    finally:
        await redis.close()


async def test_an_audit_sink_that_hangs_holds_the_end_up_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dcao_server.security.audit.LAST_SECONDS", 0.1)
    sink = Sink()
    sink.delay = 3600
    trail = AuditTrail(sink, flush_seconds=0.01)

    async def life() -> None:
        async with trail.running():
            trail.note(AuditEvent(event="changed"))
            await sink.writing.wait()

    await within(life(), 10)


async def test_a_tell_without_a_reply_does_not_hold_the_tally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcao_server.store.tally.LAST_SECONDS", 0.1)
    monkeypatch.setattr(ending, "LAST_SECONDS", 0.1)

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    tally = Tally(never)
    tally.heard(RunKey("p", "r"), 1.0)
    tally.start()
    await asyncio.sleep(0.05)
    await within(tally.stop(), 10)


async def test_a_closed_connection_is_not_made_again(redis_server: RedisServer) -> None:
    lane = open_lane(Settings(redis_url=redis_server.url))
    assert lane is not None
    assert await lane.execute("PING") == b"PONG"
    await lane.aclose()
    with pytest.raises(RedisConnectionError, match="closed"):
        await lane.execute("PING")


async def test_a_controller_ends_although_every_task_swallows_its_first_cancellation(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real Redis; the tail's round is one that swallows."""
    app = create_app(Settings(data=tmp_path, redis_url=redis_server.url))

    async def round_(_: object) -> None:
        await stubborn(1)

    monkeypatch.setattr("dcao_server.store.redis_tail.Tail._round", round_)
    monkeypatch.setattr("dcao_server.store.redis_store.warn_of_loss", round_)

    async def life() -> None:
        async with app.router.lifespan_context(app):
            store = app.state.context.store
            following = asyncio.create_task(anext(store.follow(RunKey("p", "r"), START)))
            await asyncio.sleep(0.2)
            await end(following)

    await within(life(), 20)
