"""uvicorn's HTTP protocol with the limits that it leaves out: header bytes, header and body time, connections.

uvicorn counts time only between requests, and httptools counts nothing, so a client could send a header without end or
a byte a minute. Here each connection remembers by when its request must be complete, or the next one begin, and one
task a server looks at all of them once a second: a timer for each request costs as much as the request's parsing.
"""

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from dcao_proto.problem import PROBLEM_MEDIA_TYPE, ProblemError, ProblemKind
from dcao_server.asgi.problems import problem_body
from dcao_server.settings import Settings

SWEEP_SECONDS = 1.0


class LimitedProtocol(HttpToolsProtocol):
    """One connection. `settings` is set on a subclass, because uvicorn makes the instances."""

    settings: Settings

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.overdue_at: float | None = None
        """Loop time by which the current request must be complete, or the next one begin; None while it is answered."""
        self._idle = False
        self._received = 0
        self._in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection owes its first request within the header time."""
        super().connection_made(transport)
        self.overdue_at = self.loop.time() + self.settings.header_seconds
        if len(self.connections) > self.settings.max_connections:
            self._close_with(
                ProblemKind.NOT_READY,
                f"expected at most {self.settings.max_connections} connections, got another; try another replica, or "
                "raise DCAO_MAX_CONNECTIONS",
            )

    def data_received(self, data: bytes) -> None:
        """Feeds the parser and counts what a header has used up."""
        if self.transport.is_closing():
            return
        if self._idle or self.overdue_at is None:
            self.overdue_at = self.loop.time() + self.settings.header_seconds
            self._idle = False
        if self._in_headers:
            self._received += len(data)
        super().data_received(data)
        if self._in_headers and self._received > self.settings.header_limit and not self.transport.is_closing():
            self._refuse_headers()

    def on_headers_complete(self) -> None:
        """Refuses too large a header; gives the body its own time."""
        self._in_headers = False
        if self._received > self.settings.header_limit:
            # More bytes than the limit came, but some of them may be the body.
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.settings.header_limit:
                self._refuse_headers()
                return
        self.overdue_at = self.loop.time() + self.settings.body_seconds
        self.start_request()

    def on_body(self, body: bytes) -> None:
        """Drops the body of a request that was refused with its headers."""
        if not self.transport.is_closing():
            self.take_body(body)

    def on_message_complete(self) -> None:
        """The request is here; the next one starts to count with its first byte."""
        self.overdue_at = None
        self._received = 0
        self._in_headers = True
        if not self.transport.is_closing():
            self.end_request()
            if self.cycle is not None and self.cycle.response_complete:
                self._rest()  # it was answered before it was complete

    def on_response_complete(self) -> None:
        """uvicorn's, but for the timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.overdue_at is None:  # no request is on its way
            self._rest()

    def _rest(self) -> None:
        self.overdue_at = self.loop.time() + self.settings.keep_alive_seconds
        self._idle = True

    # What becomes of a request that is within the limits: it is uvicorn's.

    def start_request(self) -> None:
        """The headers are complete."""
        super().on_headers_complete()

    def take_body(self, body: bytes) -> None:
        """A part of the body came."""
        super().on_body(body)

    def end_request(self) -> None:
        """The body is complete."""
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all gets a problem document too."""
        if not self.transport.is_closing():
            self._close_with(ProblemKind.MALFORMED, "expected an HTTP/1.1 request, got something else")

    def _refuse_headers(self) -> None:
        limit = self.settings.header_limit
        self._close_with(
            ProblemKind.HEADERS_TOO_LARGE, f"expected a request line and headers of at most {limit} bytes, got more"
        )

    def _close_with(self, kind: ProblemKind, detail: str) -> None:
        body = problem_body(ProblemError(kind, detail))
        head = (
            f"content-type: {PROBLEM_MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[kind.status] + head.encode("ascii") + body)
        self.transport.close()


def close_overdue(state: ServerState, now: float) -> int:
    """Closes connections whose request is overdue at loop time `now`; returns how many."""
    overdue = [
        connection
        for connection in state.connections
        if isinstance(connection, LimitedProtocol) and connection.overdue_at is not None and now > connection.overdue_at
    ]
    for connection in overdue:
        connection.transport.close()
    return len(overdue)
