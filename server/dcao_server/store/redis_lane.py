"""One connection to Redis that all requests share: each writes when it likes, replies come in the order of the writes.

Decisions have one to themselves; what is read and counted for the metrics has another. redis-py lends a whole
connection to each call, which costs 40–55 µs of the controller's core; this costs 8–11 µs (`benchmarks/load.py`,
docs/decisions/0010), a quarter of a whole decision. It never sends anything twice: when the connection breaks,
everything that waits fails, and the store's caller decides.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dcao_server.ending import end
from dcao_server.store.redis_errors import is_foreign

_CLOSED = "the store was closed"
_LAST_WORDS = ("Protocol error", "max number of clients")
"""In an error after which Redis closes the connection: what is sent until we notice would hear of that only."""


class Address(NamedTuple):
    """Where a Redis listens; `path` is that of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""


class LaneOptions(NamedTuple):
    """How to get in. `resolve` is asked before every connection: behind Sentinels the master moves.

    `release` closes what `resolve` keeps open.
    """

    resolve: Callable[[], Awaitable[Address]]
    release: Callable[[], Awaitable[None]]
    username: str | None
    password: str | None
    database: int
    tls: ssl.SSLContext | None
    timeout: float
    """Seconds to connect, and to wait for one reply."""


class Lane:
    """Sends commands over one shared connection, which is made when it is needed."""

    def __init__(self, options: LaneOptions) -> None:
        self._options = options
        self._protocol: _Replies | None = None
        self._connecting: asyncio.Future[_Replies] | None = None
        self._closed = False

    def execute(self, *parts: Any) -> Awaitable[Any]:
        """Sends one command, at once if there is a connection; the reply is awaited.

        Raises:
            redis.exceptions.RedisError: as redis-py would, when awaited.
        """
        protocol = self._protocol
        return self._connect_and_send(parts) if protocol is None or protocol.broken else protocol.send(parts)

    async def execute_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies to commands that are written together; an error that is about one key is its command's reply.

        Raises:
            redis.exceptions.RedisError: the first other one.
        """
        if not commands:
            return []
        protocol = self._protocol
        if protocol is None or protocol.broken:
            protocol = await self._connected()
        return await protocol.send_all(commands)

    @property
    def busy(self) -> bool:
        """Whether somebody waits for a reply."""
        return self._protocol is not None and self._protocol.waiting

    async def aclose(self) -> None:
        """Closes the connection, for good; what still waits fails."""
        self._closed = True
        await end(self._connecting)
        if self._protocol is not None:
            self._protocol.fail(RedisConnectionError(_CLOSED))
        await self._options.release()

    async def _connect_and_send(self, parts: tuple[Any, ...]) -> Any:
        return await (await self._connected()).send(parts)

    async def _connected(self) -> "_Replies":
        """The connection; callers at the same time share one attempt."""
        if self._closed:
            raise RedisConnectionError(_CLOSED)
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._settle)
        return await asyncio.shield(self._connecting)

    def _settle(self, attempt: "asyncio.Future[_Replies]") -> None:
        self._connecting = None
        if not attempt.cancelled() and attempt.exception() is None:
            self._protocol = attempt.result()

    async def _connect(self) -> "_Replies":
        options = self._options
        try:
            async with asyncio.timeout(options.timeout):
                address = await options.resolve()
                protocol = await self._open(address)
                try:
                    await self._enter(protocol)
                except BaseException:
                    protocol.fail(RedisConnectionError("this Redis did not let us in"))
                    raise
                return protocol
        except TimeoutError as error:
            raise RedisTimeoutError(f"no connection to Redis within {options.timeout} s") from error
        except OSError as error:
            raise RedisConnectionError(f"no connection to Redis: {error}") from error

    async def _enter(self, protocol: "_Replies") -> None:
        """Says who we are and which database we want."""
        options = self._options
        if options.password is not None:
            user = (options.username,) if options.username else ()
            await protocol.send(("AUTH", *user, options.password))
        if options.database:
            await protocol.send(("SELECT", str(options.database)))

    async def _open(self, address: Address) -> "_Replies":
        loop = asyncio.get_running_loop()
        timeout = self._options.timeout

        def protocol() -> _Replies:
            return _Replies(loop, timeout)

        if address.path:
            _, made = await loop.create_unix_connection(protocol, address.path, ssl=self._options.tls)
        else:
            _, made = await loop.create_connection(protocol, address.host, address.port, ssl=self._options.tls)
        return made


class _Together:
    """Takes the place of a future for each of some commands, and settles the one future that their sender awaits."""

    def __init__(self, future: "asyncio.Future[list[Any]]", count: int) -> None:
        self._future = future
        self._count = count
        self._replies: list[Any] = []

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return self._future.done()

    def set_result(self, reply: Any) -> None:
        """One command's reply."""
        self._replies.append(reply)
        if len(self._replies) == self._count:
            self._future.set_result(self._replies)

    def set_exception(self, error: Exception) -> None:
        """One command failed: that is its reply if the key is to blame; else the sender hears of it at once, and the
        replies after it are dropped."""
        if is_foreign(error):
            self.set_result(error)
        else:
            self._future.set_exception(error)


class _Replies(asyncio.Protocol):
    """Pairs replies with the futures that wait for them, oldest first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self.broken = False
        self._why: Exception = RedisConnectionError("the connection to Redis is closed")
        self._loop = loop
        self._timeout = timeout
        self._reader = hiredis.Reader()
        self._unwritten: list[bytes] = []
        self._waiting: deque[tuple[asyncio.Future[Any] | _Together, float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(RedisConnectionError(f"Redis closed the connection: {exc}"))

    @property
    def waiting(self) -> bool:
        """Whether a reply has not come yet."""
        return bool(self._waiting)

    def send(self, parts: tuple[Any, ...]) -> "asyncio.Future[Any]":
        """Writes a command; the future holds its reply."""
        future = self._loop.create_future()
        if self.broken or self._transport is None:
            future.set_exception(self._why)
            return future
        command = hiredis.pack_command(parts)  # first: nobody may wait for a reply to what could not be packed
        self._put(command)
        self._waiting.append((future, self._loop.time() + self._timeout))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._check)
        return future

    def send_all(self, commands: Sequence[tuple[Any, ...]]) -> "asyncio.Future[list[Any]]":
        """Writes commands in one go; the future holds all their replies, or the first error that is none."""
        future = self._loop.create_future()
        if self.broken or self._transport is None:
            future.set_exception(self._why)
            return future
        packed = b"".join([hiredis.pack_command(parts) for parts in commands])
        replies = _Together(future, len(commands))
        self._put(packed)
        self._waiting.extend([(replies, self._loop.time() + self._timeout)] * len(commands))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._check)
        return future

    def _put(self, packed: bytes) -> None:
        """Writes at once while nobody waits, else with what else is sent in this turn of the event loop.

        A write takes 10 µs of our core, most of them to wake Redis, which then has enough to do anyway.
        """
        assert self._transport is not None  # noqa: S101  (the callers looked)
        if not self._waiting:
            self._transport.write(packed)
            return
        if not self._unwritten:
            self._loop.call_soon(self._write)
        self._unwritten.append(packed)

    def _write(self) -> None:
        if self._transport is not None and not self.broken:
            self._transport.write(b"".join(self._unwritten))
        self._unwritten.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            self._pair()
        except hiredis.ProtocolError as error:
            self.fail(RedisConnectionError(f"what answers does not speak Redis: {error}"))

    def _pair(self) -> None:
        while (reply := self._reader.gets()) is not False:
            error = _error(str(reply)) if isinstance(reply, hiredis.ReplyError) else None
            if not self._waiting:  # said unasked, before the connection is closed: there are too many
                self.fail(RedisConnectionError(str(reply)))
                return
            future, _ = self._waiting.popleft()
            if not future.done():  # else whoever asked has gone
                if error is None:
                    future.set_result(reply)
                else:
                    future.set_exception(error)
            if isinstance(error, ReadOnlyError):  # the next command looks for the new master
                self.fail(RedisConnectionError("the Redis we talk to has become a replica"))
                return
            if error is not None and any(words in str(error) for words in _LAST_WORDS):
                self.fail(RedisConnectionError(str(error)))
                return

    def fail(self, error: Exception) -> None:
        """Gives the connection up: without one reply, all later ones would go to the wrong caller."""
        if not self.broken:
            self.broken, self._why = True, error
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    def _check(self) -> None:
        """One timer for all: is the oldest overdue?"""
        self._watch = None
        if not self._waiting:
            return
        due = self._waiting[0][1]
        if self._loop.time() >= due:
            self.fail(RedisTimeoutError(f"no reply from Redis within {self._timeout} s"))
        else:
            self._watch = self._loop.call_at(due, self._check)


def _error(text: str) -> Exception:
    if text.startswith("NOSCRIPT"):
        return NoScriptError(text)
    return ReadOnlyError(text) if text.startswith("READONLY") else ResponseError(text)
