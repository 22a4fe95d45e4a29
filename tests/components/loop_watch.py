"""How long one callback kept asyncio's event loop, in CPU time: a busy machine must not look like a held loop."""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Held:
    """What was seen. `seconds` is the CPU time of the longest callback, `what` names it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.what = ""

    def note(self, seconds: float, handle: Any) -> None:
        """One callback took so long."""
        if seconds > self.seconds:
            self.seconds, self.what = seconds, repr(handle)[:300]


@contextmanager
def watched() -> Iterator[Held]:
    """Times every callback of asyncio's own loop (not uvloop's) while the block runs.

    What the test process holds already is frozen: a full collection over a whole test session takes half a second, and
    is not the server's.
    """
    held = Held()
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        try:
            run(handle)
        finally:
            held.note(time.thread_time() - began, handle)

    gc.collect()
    gc.freeze()
    asyncio.Handle._run = timed  # type: ignore[method-assign]
    try:
        yield held
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]
        gc.unfreeze()
