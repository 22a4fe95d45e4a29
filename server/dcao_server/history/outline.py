"""A run's history, or a part of it, in about a thousand records: what a chart is drawn from.

The first question about a run of 100,000 decisions takes a second to read, in slices. Nobody waits for that: after a
moment the answer is what was read so far, and the next one goes on from there. What was read is kept for a while, so
that afterwards only new records are.
"""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from dcao_proto import Outline
from dcao_server.ending import end
from dcao_server.history.codec import OUTLINED, decoded, logged, outlined
from dcao_server.history.thinning import Thinner
from dcao_server.metrics import Metrics
from dcao_server.responses import page_json
from dcao_server.store.contract import START, HistoryStore, Position, RunKey, StoredRecord, StoredRun
from dcao_server.turns import Turn

READ_AT_ONCE = 100
PATIENCE_SECONDS = 0.35
"""For which a request waits; with what a browser needs, the first picture is there within a second."""
KEPT = 48
"""Outlines, of a megabyte at most; the one not asked for longest goes first."""
READ_TOGETHER = 4
"""Histories read at the same time."""
MOST_READS = 20_000
"""Of `READ_AT_ONCE` records, or to step over an attempt; a run of two million records is not looked at to its end."""


class Part(NamedTuple):
    """Which records: `points` of them at most, of steps from `first` to `last`."""

    key: RunKey
    points: int
    first: int | None
    last: int | None


class _Reading:
    """What was read of one part so far."""

    def __init__(self, part: Part) -> None:
        self.thinner: Thinner[StoredRecord] = Thinner(part.points, OUTLINED)
        # What people logged is rare, and they look for it: kept besides, as long as there is not too much of it.
        self.logged: Thinner[StoredRecord] = Thinner(max(part.points // 4, OUTLINED), 1)
        self.position = Position(0, part.first - 1) if part.first else START
        self.complete = False
        self.in_attempt = (0, 0)
        """The newest attempt, and how many of its records were read: the store's own count tells of backfills."""
        self.task: asyncio.Task[None] | None = None


class Outlines:
    """Makes outlines.

    Args:
        store: where the histories are.
        metrics: times the reads.
    """

    def __init__(self, store: HistoryStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._kept: OrderedDict[Part, _Reading] = OrderedDict()
        self._slots = asyncio.Semaphore(READ_TOGETHER)

    async def stop(self) -> None:
        """Ends what is being read."""
        await end(*(reading.task for reading in self._kept.values()))

    async def outline(self, run: StoredRun, part: Part) -> bytes:
        """An `Outline` as JSON, of what is read by now.

        Raises:
            StoreUnavailableError: the store cannot be asked now.
        """
        reading = self._reading(run, part)
        if reading.task is None:
            reading.task = asyncio.create_task(self._read(part, reading), name="outline")
        task = reading.task
        await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
        if task.done():
            reading.task = None
            task.result()
            if part.first is not None or part.last is not None:
                self._kept.pop(part, None)  # a picture of a part is looked at once
        return await _written(reading)

    def _reading(self, run: StoredRun, part: Part) -> _Reading:
        reading = self._kept.get(part)
        if reading is not None and reading.complete and reading.task is None and not _whole(reading, run):
            reading = None  # a backfill has put records below those that were read, or the run is another of that name
        if reading is None:
            reading = self._kept[part] = _Reading(part)
        self._kept.move_to_end(part)
        for old in list(self._kept)[: max(0, len(self._kept) - KEPT)]:
            if self._kept[old].task is None:
                del self._kept[old]
        return reading

    async def _read(self, part: Part, reading: _Reading) -> None:
        """Everything after what was read."""
        first, last = part.first or 0, 2**53 - 1 if part.last is None else part.last
        async with self._slots:
            turn = Turn()
            for _ in range(MOST_READS):
                with self._metrics.store_call("read"):
                    stored = await self._store.read(part.key, reading.position, READ_AT_ONCE)
                for one in stored:
                    if not first <= one.step <= last:  # the attempt has not come to the part yet, or has left it
                        reading.position = Position(one.attempt, first - 1 if one.step < first else 2**53 - 1)
                        break
                    reading.position = one.position
                    attempt, read = reading.in_attempt
                    reading.in_attempt = (one.attempt, read + 1 if one.attempt == attempt else 1)
                    reading.thinner.add(one, outlined(one.payload))
                    if logged(one.payload):
                        reading.logged.add(one, (None,))
                    await turn.breathe()
                else:
                    if len(stored) < READ_AT_ONCE:
                        break
        reading.complete = True


def _whole(reading: _Reading, run: StoredRun) -> bool:
    """Whether nothing was put below what was read: the store has no more of the attempt up to there than we have."""
    attempt, read = reading.in_attempt
    if attempt != run.attempt:
        return attempt < run.attempt
    if run.last_step is not None and run.last_step > reading.position.step:
        return run.decisions > read
    return run.decisions == read


async def _written(reading: _Reading) -> bytes:
    turn = Turn()
    parts = []
    kept = dict.fromkeys([*reading.thinner.items(), *reading.logged.items()])
    for one in sorted(kept, key=lambda one: one.position):
        parts += [record.wire_json() for record in decoded([one])]
        await turn.breathe()
    return _json(parts, reading)


def _json(parts: list[bytes], reading: _Reading) -> bytes:
    position = reading.position
    about = Outline(
        records=(),
        total=reading.thinner.count,
        complete=reading.complete,
        cursor=None if position == START else f"{position.attempt}:{position.step}",
    )
    return page_json("records", parts, None)[:-1] + b"," + about.wire_json()[len(b'{"records":[],') :]
