"""Live events over a real connection: they come, resume without gap, ping, and end with the process."""

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import FastAPI
from httpx import AsyncClient

from dcao_proto import Record
from dcao_server.asgi.lifecycle import Lifecycle
from dcao_server.history.events import stream
from dcao_server.metrics import Metrics
from dcao_server.store.contract import Position, RunKey, StoreUnavailableError
from tests.server.http.asking import RUN, put, records, train

KEY = RunKey("vision", "resnet")


def parse(chunk: bytes) -> tuple[str, dict[str, object]]:
    fields = dict(line.split(": ", 1) for line in chunk.decode().strip().splitlines())
    assert fields["event"] == "decision"
    return fields["id"], json.loads(fields["data"])


def events(app: FastAPI, after: Position) -> AsyncIterator[bytes]:
    context = app.state.context
    return stream(context.history.follow(KEY, after), context.lifecycle, context.metrics)


async def take(source: AsyncIterator[bytes], count: int) -> list[tuple[str, dict[str, object]]]:
    return [parse(await asyncio.wait_for(anext(source), 10)) for _ in range(count)]


async def test_events_are_the_records_and_go_on_after_the_last_id(app: FastAPI, client: AsyncClient) -> None:
    await put(client)
    last = (await train(client, 0, 10, 20))[-1]
    source = events(app, Position(0, -1))
    assert (await anext(source)).startswith(b"retry: ")
    first = await take(source, 3)
    task = asyncio.create_task(take(source, 2))
    await train(client, 30, 40, after=last)
    later = await task
    await source.aclose()  # type: ignore[attr-defined]
    everything = await records(client)
    assert [identity for identity, _ in first + later] == ["1:0", "1:10", "1:20", "1:30", "1:40"]
    assert [data for _, data in first + later] == everything
    resumed = events(app, Position(1, 20))
    await anext(resumed)
    assert [identity for identity, _ in await take(resumed, 2)] == ["1:30", "1:40"]
    await resumed.aclose()  # type: ignore[attr-defined]


async def test_the_stream_ends_when_the_process_stops(app: FastAPI, client: AsyncClient) -> None:
    await put(client)
    await train(client, 0)
    task = asyncio.create_task(client.get(RUN + "/events", headers={"Last-Event-ID": "1:0"}))
    await asyncio.sleep(0.2)
    app.state.context.lifecycle.stop()
    response = await asyncio.wait_for(task, 5)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert "event: bye" in response.text
    assert "event: decision" not in response.text


async def silence() -> AsyncIterator[Record]:
    await asyncio.sleep(3600)
    yield Record.model_construct()


async def outage() -> AsyncIterator[Record]:
    raise StoreUnavailableError("gone")
    yield Record.model_construct()


async def test_silence_is_filled_with_pings() -> None:
    source = stream(silence(), Lifecycle(), Metrics(process=False), ping_seconds=0.01)
    await anext(source)
    assert [await anext(source) for _ in range(3)] == [b": ping\n\n"] * 3
    await source.aclose()  # type: ignore[attr-defined]


async def test_an_outage_of_the_store_ends_the_stream_with_a_word() -> None:
    chunks = [chunk async for chunk in stream(outage(), Lifecycle(), Metrics(process=False))]
    assert chunks[-1].startswith(b"event: away")


async def test_one_stream_counts_while_it_is_open() -> None:
    metrics = Metrics(process=False)
    source = stream(silence(), Lifecycle(), metrics, ping_seconds=0.01)
    await anext(source)
    assert metrics.registry.get_sample_value("dcao_event_streams") == 1
    await source.aclose()  # type: ignore[attr-defined]
    assert metrics.registry.get_sample_value("dcao_event_streams") == 0
