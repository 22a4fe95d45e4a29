"""Runs the controller: uvicorn with uvloop and httptools, one process, a graceful end.

On SIGTERM or SIGINT `/readyz` says no and streams end, while requests are still served (`drain_seconds`); then no
connection is taken, and requests in flight have `shutdown_seconds`. A second signal skips the waiting.
"""

import asyncio
import gc
import socket
import sys
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from dcao_server.asgi.direct import DirectProtocol
from dcao_server.asgi.lifecycle import Lifecycle
from dcao_server.asgi.protocol import SWEEP_SECONDS, close_overdue
from dcao_server.ending import end
from dcao_server.listeners import BACKLOG, listeners
from dcao_server.logging import for_people
from dcao_server.settings import Settings, SettingsError

_log = structlog.get_logger(__name__)
GREETING = "DCAO is ready: its runs are shown at {0}, workers set DCAO_URL={0}; Ctrl-C stops it."
GC_THRESHOLD = (20_000, 20, 50)
"""Python's default of 700 allocations runs a collection in every few decisions; nearly all of them are freed by
reference counts."""


class ControllerServer(uvicorn.Server):
    """uvicorn's server with a drain before its shutdown.

    Args:
        config: as `uvicorn_config` makes it.
        lifecycle: told when draining and stopping begin.
        drain_seconds: from the signal to the shutdown.
        greeting: what a person at a terminal is told, {} being the address; it is logged if absent.
    """

    def __init__(
        self, config: uvicorn.Config, lifecycle: Lifecycle, drain_seconds: float, greeting: str | None = None
    ) -> None:
        super().__init__(config)
        self._greeting = greeting
        self._lifecycle = lifecycle
        self._drain_seconds = drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts serving; what was allocated until here is never looked at by the garbage collector again."""
        await super().startup(sockets)
        if self.should_exit:
            return
        self._loop = asyncio.get_running_loop()
        self._sweeper = asyncio.create_task(self._sweep(), name="overdue connections")
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        addresses = [
            listening.getsockname() for server in self.servers for listening in server.sockets or () if listening
        ]
        first = addresses[0][1]
        if self._greeting is None:
            _log.info("serving", url=_url(addresses[0]))
        else:
            print(self._greeting.format(_url(addresses[0])), file=sys.stderr, flush=True)
        for address in addresses:
            if address[1] != first:
                _log.info("serving metrics", url=_url(address))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal's handler: the first one drains, the second one stops at once."""
        if self._loop is None or self._lifecycle.draining or not self._drain_seconds:
            self.should_exit = True
            return
        self._lifecycle.drain()
        _log.info("draining", seconds=self._drain_seconds, signal=sig)
        self._loop.call_soon_threadsafe(self._lifecycle.streams_end.set)
        self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_seconds, self._stop_serving)

    def _stop_serving(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends streams, then lets uvicorn finish the requests in flight."""
        self._lifecycle.stop()
        await end(self._sweeper)
        await super().shutdown(sockets)
        _log.info("stopped")

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            closed = close_overdue(self.server_state, loop.time())
            if closed:
                _log.info("closed connections whose request did not arrive in time", connections=closed)


def uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """uvicorn's settings from ours; an application's `direct` route is answered by the protocol itself."""
    protocol = type(
        "ControllerProtocol", (DirectProtocol,), {"settings": settings, "route": getattr(app, "direct", None)}
    )
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=True,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        backlog=BACKLOG,
    )


def _url(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(app: ASGIApp, settings: Settings, lifecycle: Lifecycle, sockets: list[socket.socket] | None = None) -> int:
    """Serves until a signal; returns the exit code: 0 after a graceful end, 1 when it could not start.

    Args:
        app: the application.
        settings: its settings.
        lifecycle: told of the end.
        sockets: bound ones to serve on; those of `settings.host` and `settings.port` if absent.
    """
    greeting = GREETING if settings.log_format == "auto" and for_people(settings.log_format) else None
    server = ControllerServer(uvicorn_config(app, settings), lifecycle, settings.drain_seconds, greeting)
    try:
        server.run(sockets or listeners(settings.host, settings.port))
    except SettingsError as error:
        _log.error("not started", reason=str(error))
        return 1
    except SystemExit as error:
        return int(error.code or 0) and 1
    return 0
