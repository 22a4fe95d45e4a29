"""Reading histories: pages, streams of records, live records, and another policy's view of them."""

import asyncio
from collections.abc import AsyncIterator

from dcao_proto import PolicyChoice, ProblemError, ProblemKind, Record
from dcao_server.history.codec import decoded
from dcao_server.history.replay import Replay, decisions, outlined
from dcao_server.metrics import Metrics
from dcao_server.responses import PAGE_BYTES, page_json
from dcao_server.runs.identity import bound
from dcao_server.runs.readable import readable_spec
from dcao_server.store.contract import (
    START,
    HistoryStore,
    Position,
    RunKey,
    StoredRecord,
    StoredRun,
    StoreUnavailableError,
)
from dcao_server.turns import Turn

READ_AT_ONCE = 100
"""Records read for a page in one go: 2 ms to take the store's answer apart."""
BATCH = 50
"""Records formatted in one go while streaming: 5 ms of CSV, in which no decision is made."""

PAUSES = (0.1, 0.5, 2.0)
"""Seconds before a read of a stream is tried again."""


class HistoryService:
    """Reads histories.

    Args:
        store: where they are.
        metrics: times the reads.
    """

    def __init__(self, store: HistoryStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def page(self, key: RunKey, after: str | None, limit: int) -> bytes:
        """A HistoryPage as JSON: some records after a cursor.

        Raises:
            ProblemError: invalid cursor.
        """
        turn = Turn()
        parts: list[bytes] = []
        size = 0
        position, left = parse_cursor(after), limit
        while True:
            with self._metrics.store_call("read"):
                # One more than asked for tells whether there is another page.
                stored = await self._store.read(key, position, min(left + 1, READ_AT_ONCE))
            for one in stored[:left]:  # decoded one by one: all of them would hold the loop for too long
                written = [record.wire_json() for record in decoded([one])]
                parts += written
                size += sum(map(len, written))
                await turn.breathe()
                if size > PAGE_BYTES and one is not stored[-1]:
                    return page_json("records", parts, format_cursor(one.position))
            if len(stored) > left or not stored:
                return page_json("records", parts, format_cursor(stored[left - 1].position) if stored else None)
            left -= len(stored)
            position = stored[-1].position
            if left == 0 or size > PAGE_BYTES:
                with self._metrics.store_call("read"):
                    more = await self._store.read(key, position, 1)
                return page_json("records", parts, format_cursor(position) if more else None)

    async def batches(
        self, key: RunKey, after: Position = START, limit: int | None = None
    ) -> AsyncIterator[list[Record]]:
        """All records after a position in batches; constant memory whatever the length."""
        left = limit
        while left is None or left > 0:
            wanted = BATCH if left is None else min(BATCH, left)
            stored = await self._patient_read(key, after, wanted)
            if stored:
                yield decoded(stored)
                after = stored[-1].position
            if len(stored) < wanted:
                return
            if left is not None:
                left -= len(stored)

    async def _patient_read(self, key: RunKey, after: Position, limit: int) -> list[StoredRecord]:
        """A read that is tried again: a download of minutes must not break for one answer that came too late.

        Raises:
            StoreUnavailableError: the store stayed away; the download ends in the middle, which the client sees.
        """
        for pause in PAUSES:
            try:
                with self._metrics.store_call("read"):
                    return await self._store.read(key, after, limit)
            except StoreUnavailableError:
                await asyncio.sleep(pause)
        with self._metrics.store_call("read"):
            return await self._store.read(key, after, limit)

    def replay(self, run: StoredRun, choice: PolicyChoice, points: int | None = None) -> AsyncIterator[bytes]:
        """What another policy would have decided at each record, or at so many of them, one JSON object a line.

        Raises:
            ProblemError: invalid; no such policy, or its parameters do not fit. Raised at once, before the stream.
        """
        spec = readable_spec(run.spec)
        policy = bound(spec.model_copy(update={"policy": choice}))
        starts = [start.version for start in run.attempts]
        replay, batches = Replay(policy, starts), self.batches(run.key)
        return decisions(replay, batches) if points is None else outlined(replay, batches, points)

    async def follow(self, key: RunKey, after: Position) -> AsyncIterator[Record]:
        """Records after a position as they come, without end."""
        try:
            async for stored in self._store.follow(key, after):
                for record in decoded([stored]):
                    yield record
        except StoreUnavailableError as error:
            self._metrics.store_failed("follow", error)
            raise


def format_cursor(position: Position) -> str:
    """`attempt:step` of the last record of a page."""
    return f"{position.attempt}:{position.step}"


def parse_cursor(text: str | None) -> Position:
    """The position after which to go on; `attempt:step`, or a step of attempt 1.

    Raises:
        ProblemError: invalid; not a cursor.
    """
    if text is None or text == "":
        return START
    attempt, separator, step = text.partition(":")
    if not separator:
        attempt, step = "1", text
    if not (attempt.isascii() and attempt.isdecimal() and step.isascii() and step.isdecimal()) or len(text) > 40:
        raise ProblemError(
            ProblemKind.INVALID,
            "expected `after` as attempt:step, for example 1:300, as a page's next_cursor gives it",
        )
    if max(int(attempt), int(step)) > 2**53 - 1:
        raise ProblemError(ProblemKind.INVALID, "expected attempt and step of at most 2**53 - 1 in `after`")
    return Position(int(attempt), int(step))
