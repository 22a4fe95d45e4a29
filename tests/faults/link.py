"""A TCP link that can be made bad: it delays, swallows, resets and truncates what goes through it."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
CHUNK = 65536
LINGER_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST instead of FIN."""


@dataclass(frozen=True)
class Condition:
    """How bad a link is. Each chunk that passes meets it."""

    delay: tuple[float, float] = (0.0, 0.0)
    """Seconds, from and to, by which a chunk is late; order is kept."""
    swallow: bool = False
    """Chunks disappear and nobody is told, as when a cable is cut; a connection that lost some is reset afterwards."""
    truncate: float = 0.0
    """Probability that a chunk is cut short and the connection closed."""
    refuse: bool = False
    """New connections are closed at once."""


GOOD = Condition()


class Links:
    """An event loop in a thread, with the links in it."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()

    def open(self, targets: list[tuple[str, int]], seed: int) -> "Link":
        """A link that leads to one of the targets, another one for each connection."""
        link = Link(targets, random.Random(seed), self)
        self.run(link.listen())
        self._links.append(link)
        return link

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs in the loop and waits."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def close(self) -> None:
        """Ends the loop and everything in it."""
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        for link in self._links:
            link.stop_listening()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # aborted transports close their sockets in the loop's next turns


class Link:
    """One listening port in front of some targets."""

    def __init__(self, targets: list[tuple[str, int]], rng: random.Random, links: Links) -> None:
        self._condition = GOOD
        self._mended = asyncio.Event()
        self.port = 0
        self.chunks = 0
        self._targets = targets
        self._rng = rng
        self._links = links
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Takes a free port of the loopback."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop_listening(self) -> None:
        """Gives the port up."""
        if self._server is not None:
            self._server.close()

    @property
    def condition(self) -> Condition:
        """How bad it is now; to be set from any thread."""
        return self._condition

    @condition.setter
    def condition(self, condition: Condition) -> None:
        self._links.run(self._become(condition))

    async def _become(self, condition: Condition) -> None:
        self._condition = condition
        if not condition.swallow:
            self._mended.set()
            self._mended = asyncio.Event()

    def reset(self) -> None:
        """Cuts every open connection with a RST."""
        self._links.run(self._reset())

    async def _reset(self) -> None:
        for writer in list(self._open):
            _abort(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = None if self.condition.refuse else await self._connect()
        if upstream is None:
            _abort(writer)
            return
        there, back = upstream
        pair = {writer, back}
        self._open |= pair
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except (OSError, _CutError, asyncio.CancelledError):
            pass
        finally:
            self._open -= pair
            for end in pair:
                _abort(end)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for host, port in self._rng.sample(self._targets, len(self._targets)):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(host, port)
        return None

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(CHUNK):
            self.chunks += 1
            condition = self._condition
            if condition.swallow:
                # TCP never loses a part of a stream and goes on with the rest: this connection is dead for good.
                await self._mended.wait()
                raise _CutError
            if condition.delay[1]:
                await asyncio.sleep(self._rng.uniform(*condition.delay))
            if condition.truncate and self._rng.random() < condition.truncate:
                sink.write(chunk[: self._rng.randrange(len(chunk))])
                await sink.drain()
                raise _CutError
            sink.write(chunk)
            await sink.drain()
        raise _CutError  # one side is done: HTTP and Redis have no half-closed conversations


class _CutError(Exception):
    """The connection ends here, in both directions."""


def _abort(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    writer.transport.abort()
