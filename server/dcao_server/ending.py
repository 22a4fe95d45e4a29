"""Ends what runs in the background, in bounded time whatever it does.

`task.cancel()` is a request. A library on the way may swallow it: `asyncio.wait_for` of Python 3.11, in which redis-py
writes, returns its result when the cancellation comes in the turn of the loop in which the write is finished. The task
then goes on as if nothing had been asked, and whoever awaits it waits for ever.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

_log = structlog.get_logger("dcao.ending")
LAST_SECONDS = 3.0
"""For what should be finished before the process ends; a store that answers needs milliseconds."""
CANCELLATIONS = 5
CANCEL_SECONDS = 0.2
"""After which a cancellation that had no effect is repeated."""


async def end(*futures: asyncio.Future[Any] | None, grace: float = 0.0) -> None:
    """Returns when they have ended, or have been cancelled in vain `CANCELLATIONS` times, which the log says.

    Args:
        futures: tasks, mostly; None is passed over.
        grace: seconds in which each may end by itself, before it is cancelled.
    """
    for future in futures:
        if future is None:
            continue
        if grace and not future.done():
            await asyncio.wait({future}, timeout=grace)
        for _ in range(CANCELLATIONS):
            if future.done():
                break
            future.cancel()
            await asyncio.wait({future}, timeout=CANCEL_SECONDS)
        _tell(future, grace)


async def finish(name: str, last: Coroutine[Any, Any, Any]) -> None:
    """Does a last thing within `LAST_SECONDS`; the log says what became of it if it failed."""
    await end(asyncio.create_task(last, name=name), grace=LAST_SECONDS)


def _tell(future: asyncio.Future[Any], grace: float) -> None:
    name = future.get_name() if isinstance(future, asyncio.Task) else repr(future)
    if not future.done():
        _log.error("a task does not end; the process ends without it", task=name)
    elif future.cancelled():
        if grace:
            _log.warning("a task was cut short at the end", task=name, seconds=grace)
    elif (error := future.exception()) is not None:
        _log.warning("a task ended with an error", task=name, error=repr(error)[:500])
