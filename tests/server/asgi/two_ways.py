"""One application behind two ports: decisions answered by the protocol itself, and by uvicorn through all layers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from uvicorn.server import ServerState

from dcao_server.app import create_app
from dcao_server.asgi.direct import DirectProtocol, DirectRequest
from dcao_server.asgi.runner import uvicorn_config
from dcao_server.decisions.hot_route import ShortcutApp
from dcao_server.settings import Settings


class Way:
    """A port, and how many requests on it the protocol answered itself."""

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self.port = 0
        self.answered_directly = 0

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def exchange(self, parts: Sequence[bytes], answers: int = 1) -> list[bytes]:
        """Sends parts, one packet each, and reads so many answers that say their length."""
        async with self.connection() as (reader, writer):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.02)
            return [await read_answer(reader) for _ in range(answers)]


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """One answer that says its length."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    return head + await reader.readexactly(length)


@contextlib.asynccontextmanager
async def both_ways(settings: Settings) -> AsyncIterator[tuple[ShortcutApp, Way, Way]]:
    """The application, its port with the direct route, and its port without."""
    app = create_app(settings)
    assert isinstance(app, ShortcutApp)
    async with (
        app.router.lifespan_context(app),
        _listening(app, settings, direct=True) as direct,
        _listening(app, settings, direct=False) as layers,
    ):
        yield app, direct, layers


@contextlib.asynccontextmanager
async def _listening(app: ShortcutApp, settings: Settings, *, direct: bool) -> AsyncIterator[Way]:
    config = uvicorn_config(app, settings)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Tue, 24 Nov 2026 12:00:00 GMT")]
    way = Way(state)

    class Counted(config.http_protocol_class):  # type: ignore[name-defined, misc]  # known at run time only
        def _direct_request(self, route: Any) -> DirectRequest | None:
            request: DirectRequest | None = super()._direct_request(route)
            way.answered_directly += request is not None
            return request

    assert issubclass(Counted, DirectProtocol)
    if not direct:
        Counted.route = None
    server = await asyncio.get_running_loop().create_server(lambda: Counted(config, state, {}), "127.0.0.1", 0)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        for connection in list(state.connections):
            connection.transport.close()
        await asyncio.sleep(0)
