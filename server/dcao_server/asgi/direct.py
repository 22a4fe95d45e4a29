"""A request that the HTTP protocol hands to its route itself, and answers in one write.

uvicorn makes a scope, an event and a cycle for every request, ASGI passes two messages through every layer in between,
and each layer wraps what the one before it wrapped: 35 µs of the 105 that a decision takes besides the law. One route
takes nearly all requests, and nearly all of them look alike. Those are matched here by their target and headers; what
is unusual in any way (chunked, large, HTTP/1.0, behind an unanswered request, asking to upgrade or to continue) goes
to uvicorn and through all layers as before. Both ways give the same answers (docs/decisions/0033).
"""

import asyncio
from typing import Protocol

from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from dcao_server.asgi.headers import Header
from dcao_server.asgi.protocol import LimitedProtocol

_JSON = b"application/json"
MOST_BYTES = HIGH_WATER_LIMIT
"""Of a body that is taken directly; of a larger one uvicorn holds back what the application has not read yet."""


class DirectRoute(Protocol):
    """What a protocol needs to know of the route whose requests it answers itself."""

    def names_in(self, target: bytes) -> tuple[str, ...] | None:
        """The names in the target of a request for this route; None if it is for another."""

    async def answer(self, request: "DirectRequest") -> None:
        """Answers a POST by `request.send`, once."""


class DirectRequest:
    """One request; to uvicorn's protocol it is the cycle of a request that is being answered.

    Attributes:
        names: in its target, as the route found them.
        target: path, without a query.
        header_list: as they came, names in lower case.
        headers: the same by name; of several with one name the last.
        keep_alive: False closes the connection after the answer, which then says so.
    """

    __slots__ = (
        "_arrived",
        "_body",
        "_complete",
        "_protocol",
        "_task",
        "disconnected",
        "header_list",
        "headers",
        "keep_alive",
        "names",
        "response_complete",
        "target",
    )

    def __init__(
        self, protocol: "DirectProtocol", names: tuple[str, ...], target: bytes, headers: dict[bytes, bytes]
    ) -> None:
        self.names = names
        self.target = target
        self.header_list = protocol.headers
        self.headers = headers
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self._protocol = protocol
        self._body = b""
        self._complete = False
        self._arrived: asyncio.Future[None] | None = None

    @property
    def client(self) -> tuple[str, int] | None:
        """Address of the other end, which may be a proxy."""
        return self._protocol.client

    @property
    def server(self) -> tuple[str, int | None] | None:
        """Address of this end: its port says which door the request came in by."""
        return self._protocol.server

    async def body(self) -> bytes:
        """All of it.

        Raises:
            ClientDisconnect: it will not come.
        """
        while not (self._complete or self.disconnected):  # as a rule it came with the headers
            self._arrived = self._protocol.loop.create_future()
            await self._arrived
        if not self._complete:
            raise ClientDisconnect()
        return self._body

    @property
    def paused(self) -> bool:
        """Whether the other end does not read: then `drain` comes before `send`."""
        return self._protocol.flow.write_paused and not self.disconnected

    async def drain(self) -> None:
        """Returns when the other end has read, or is gone."""
        await self._protocol.flow.drain()

    def send(self, status: int, head: bytes, body: bytes) -> None:
        """The answer; `head` are its header lines, each with its end."""
        protocol = self._protocol
        if self.disconnected or protocol.transport.is_closing():
            return
        close = b"" if self.keep_alive else b"connection: close\r\n"
        protocol.transport.write(b"".join((STATUS_LINE[status], protocol.default_head(), head, close, b"\r\n", body)))
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()

    def start(self, route: DirectRoute) -> None:
        """Has it answered, in a task that the shutdown waits for.

        The task leaves the set of those by itself: a callback of a task that is done costs a turn of the event loop.
        """
        self._task = self._protocol.loop.create_task(self._run(route))
        self._protocol.tasks.add(self._task)

    async def _run(self, route: DirectRoute) -> None:
        try:
            await route.answer(self)
        except BaseException:  # cancelled, because the time for the shutdown is over
            self._protocol.transport.close()
            raise
        finally:
            self._protocol.tasks.discard(self._task)

    # What uvicorn's protocol calls.

    @property
    def message_event(self) -> "DirectRequest":
        """Whatever is to be set when something happened to the request."""
        return self

    def set(self) -> None:
        """Something happened."""
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def add(self, part: bytes) -> None:
        """A part of the body came; as a rule it is all of it."""
        self._body = self._body + part if self._body else part

    def complete(self) -> None:
        """All of the body is there."""
        self._complete = True
        self.set()


class DirectProtocol(LimitedProtocol):
    """One connection. `route` is set on a subclass, as `settings` is; None leaves everything to uvicorn."""

    route: DirectRoute | None = None
    _head: bytes = b""
    _head_of: object = None

    def on_message_begin(self) -> None:
        """A request begins; uvicorn's scope for it is made when uvicorn is to answer it."""
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came."""
        self.headers.append((name.lower(), value))

    def start_request(self) -> None:
        """The headers are complete: answers the request, or has uvicorn answer it."""
        waits = self.cycle is not None and not self.cycle.response_complete
        if self.route is not None and not waits:
            request = self._direct_request(self.route)
            if request is not None:
                self.cycle = request  # type: ignore[assignment]  # it has all that is asked of it
                request.start(self.route)
                return
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().start_request()

    def _direct_request(self, route: DirectRoute) -> DirectRequest | None:
        names = route.names_in(self.url)
        if names is None or self.parser.get_method() != b"POST":
            return None
        headers = dict(self.headers)
        length = headers.get(b"content-length")
        usual = (
            headers.get(b"content-type") == _JSON
            and len(headers) == len(self.headers)  # none of them twice
            and b"host" in headers
            and b"origin" not in headers  # no browser
            and b"sec-fetch-site" not in headers
            and length is not None
            and 0 < int(length) <= min(MOST_BYTES, self.settings.body_limit)
            and b"transfer-encoding" not in headers
            and b"expect" not in headers
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and self.parser.get_http_version() == "1.1"
        )
        return DirectRequest(self, names, self.url, headers) if usual else None

    def take_body(self, body: bytes) -> None:
        """A part of the body came."""
        if not isinstance(self.cycle, DirectRequest):
            super().take_body(body)
        elif not self.cycle.response_complete:
            self.cycle.add(body)

    def end_request(self) -> None:
        """The body is complete."""
        if isinstance(self.cycle, DirectRequest):
            self.cycle.complete()
        else:
            super().end_request()

    def default_head(self) -> bytes:
        """The lines of uvicorn's own headers, such as the date; it makes a new list of them every second."""
        headers = self.server_state.default_headers
        cls = type(self)
        if cls._head_of is not headers:
            cls._head_of, cls._head = headers, head_of(headers)
        return cls._head


def head_of(headers: list[Header]) -> bytes:
    """Header lines, each with its end."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)
