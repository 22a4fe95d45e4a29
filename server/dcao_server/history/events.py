"""Live records as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

The ID of an event is the record's place, `attempt:step`: a reader that was cut off sends the last one it saw and gets
everything after, and nothing twice.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from dcao_proto import Record
from dcao_server.asgi.lifecycle import Lifecycle
from dcao_server.ending import end
from dcao_server.history.rights import Rights
from dcao_server.metrics import Metrics
from dcao_server.store.contract import StoreUnavailableError

PING_SECONDS = 15.0
"""Proxies close silent connections after 30 to 60 s."""
PING = b": ping\n\n"
RETRY_MILLISECONDS = 2000
BYE = b"event: bye\ndata: the controller stops; another replica goes on\n\n"
REVOKED = b"event: bye\ndata: the API key does not allow this any more\n\n"
AWAY = b"event: away\ndata: the store cannot be reached; try again\n\n"


def event(record: Record) -> bytes:
    """One record."""
    data = record.wire_json()
    return b"id: %d:%d\nevent: decision\ndata: %s\n\n" % (record.attempt, record.step, data)


async def stream(
    records: AsyncIterator[Record],
    lifecycle: Lifecycle,
    metrics: Metrics,
    *,
    ping_seconds: float = PING_SECONDS,
    rights: Rights | None = None,
) -> AsyncIterator[bytes]:
    """The events, pings in between, until the reader leaves, may not read on, or the process stops.

    When the store goes away the stream ends with a word: browsers come back by themselves, with the last ID.
    """
    rights = rights or Rights()
    pinged = time.monotonic()
    stopping: asyncio.Future[Any] = asyncio.ensure_future(lifecycle.streams_end.wait())
    upcoming: asyncio.Future[Any] | None = None
    with metrics.event_stream():
        try:
            yield b"retry: %d\n\n" % RETRY_MILLISECONDS
            while True:
                if upcoming is None:
                    upcoming = asyncio.ensure_future(anext(records))
                wait = min(ping_seconds, rights.every)
                await asyncio.wait({upcoming, stopping}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if not await rights.hold():
                    yield REVOKED
                    return
                if upcoming.done():
                    done, upcoming = upcoming, None
                    yield event(done.result())
                elif stopping.done():
                    yield BYE
                    return
                elif time.monotonic() - pinged >= ping_seconds:
                    pinged = time.monotonic()
                    yield PING
        except StopAsyncIteration:
            yield BYE
        except StoreUnavailableError:
            yield AWAY
        finally:
            await end(stopping, upcoming)
