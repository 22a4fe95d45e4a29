"""uvicorn's HTTP protocol with the limits that it leaves out: header bytes, header and body time, connections.

uvicorn counts time only between requests, and httptools counts nothing, so a client could send a header without end or
a byte a minute. Here each connection remembers by when its request must be complete, or the next one begin, and one
task a server looks at all of them once a second: a timer for each request costs as much as the request's parsing.
"""

import asyncio
import contextlib
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from dcao_proto.problem import PROBLEM_MEDIA_TYPE, ProblemError, ProblemKind
from dcao_server.asgi.problems import problem_body
from dcao_server.asgi.upgrade import PlainParser, head_without_offer
from dcao_server.settings import Settings

SWEEP_SECONDS = 1.0
MOST_PIECES = 256
"""Of one read: a request has one or two, and one more for each empty line in a chunked body."""
_EMPTY_LINE = b"\r\n\r\n"


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
        self._body_left = 0
        self._tail = b""
        self._held = b""
        self._plain_head: bytes | None = None
        self._new_parser()

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
        """Feeds the parser one request at a time; what comes behind an unanswered one waits, and nothing more is read.

        Requests that are parsed ahead cost fifty times their bytes, and a client that never reads an answer could send
        them for ever.
        """
        if self._held:
            self._held += data
            return
        at = 0
        for _ in range(MOST_PIECES):
            if at == len(data) or self.transport.is_closing():
                return
            if self._unanswered:
                self._held = data[at:]
                # Not by uvicorn's flow control, which reads on whenever the application waits for anything.
                self.transport.pause_reading()
                return
            end = self._end_of_piece(data, at)
            self._feed(data[at:end])
            at = end
        self._close_with(ProblemKind.MALFORMED, "expected an HTTP/1.1 request, got one of empty lines")

    @property
    def _unanswered(self) -> bool:
        """Whether a request is here, whole, and its answer is not out."""
        return self.cycle is not None and self._in_headers and not self.cycle.response_complete

    def _end_of_piece(self, data: bytes, at: int) -> int:
        """How much of this is surely of one request: up to an empty line, or the rest of a body of known length."""
        if self._body_left:
            return min(len(data), at + self._body_left)
        if at == 0 and self._tail:  # the empty line may lie across two pieces
            seam = (self._tail + data[:3]).find(_EMPTY_LINE)
            if seam >= 0:
                return seam + len(_EMPTY_LINE) - len(self._tail)
        end = data.find(_EMPTY_LINE, at)
        return len(data) if end < 0 else end + len(_EMPTY_LINE)

    def _feed(self, data: bytes) -> None:
        """Feeds the parser and counts what a header has used up."""
        if self._idle or self.overdue_at is None:
            self.overdue_at = self.loop.time() + self.settings.header_seconds
            self._idle = False
        if self._in_headers:
            self._received += len(data)
        self._body_left = max(0, self._body_left - len(data))
        self._tail = data[-3:] if len(data) > 2 else (self._tail + data)[-3:]
        super().data_received(data)
        if self._in_headers and self._received > self.settings.header_limit and not self.transport.is_closing():
            self._refuse_headers()

    def _go_on(self) -> None:
        """The answer is out: what came behind its request is looked at."""
        data, self._held = self._held, b""
        if data and not self.transport.is_closing():
            self.data_received(data)
        if data and not self._held and not self.transport.is_closing():
            self.flow.read_paused = False
            self.transport.resume_reading()

    def on_headers_complete(self) -> None:
        """Refuses too large a header; gives the body its own time."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._plain_head = head_without_offer(self.parser.get_method(), self.url, self.headers)
            return
        self._in_headers = False
        if self._received > self.settings.header_limit:
            # More bytes than the limit came, but some of them may be the body.
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.settings.header_limit:
                self._refuse_headers()
                return
        self.overdue_at = self.loop.time() + self.settings.body_seconds
        self._body_left = next((int(value) for name, value in self.headers if name.lower() == b"content-length"), 0)
        if self.cycle is not None and not self.cycle.response_complete:
            # It came in one piece with the one before, by line ends of its own making.
            self._close_with(ProblemKind.MALFORMED, "expected a request after the answer to the one before")
            return
        self.start_request()

    def on_body(self, body: bytes) -> None:
        """Drops the body of a request that was refused with its headers."""
        if not self.transport.is_closing():
            self.take_body(body)

    def on_message_complete(self) -> None:
        """The request is here; the next one starts to count with its first byte."""
        if self._plain_head is not None:
            return
        self.overdue_at = None
        self._received = 0
        self._body_left = 0
        self._tail = b""
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
        if self.overdue_at is None:  # no request is on its way
            self._rest()
        if self._held:
            self.loop.call_soon(self._go_on)
        else:
            self.flow.resume_reading()

    def _rest(self) -> None:
        self.overdue_at = self.loop.time() + self.settings.keep_alive_seconds
        self._idle = True

    def parse_plain(self, rest: bytes) -> bool:
        """Begins a request that offered another protocol again without the offer; False when there was none."""
        if self._plain_head is None:
            return False
        head, self._plain_head = self._plain_head, None
        self._new_parser()
        self.parser.feed_data(head + rest)
        return True

    def _new_parser(self) -> None:
        self.parser = PlainParser(self)
        with contextlib.suppress(AttributeError):  # httptools < 0.6.3
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

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
