"""Histories as text, streamed: JSON, one JSON object a line, CSV. Memory does not grow with the history."""

import csv
import io
from collections.abc import AsyncIterator

from dcao_proto import Record
from dcao_server.history.columns import COLUMNS, Value

Batches = AsyncIterator[list[Record]]


async def ndjson(batches: Batches) -> AsyncIterator[bytes]:
    """One record a line."""
    async for batch in batches:
        yield b"".join(record.wire_json() + b"\n" for record in batch)


async def csv_rows(batches: Batches) -> AsyncIterator[bytes]:
    """A line of names, then one line for each record.

    Floats are written as Python's repr, the shortest text that reads back as the same bits. An absent value is an
    empty field. Groups are left out: their number differs from record to record.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in COLUMNS])
    yield _taken(text)
    async for batch in batches:
        writer.writerows([_text(column.read(record)) for column in COLUMNS] for record in batch)
        yield _taken(text)


def _text(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    # Text that a spreadsheet would take for a formula; only a worker's name or a fingerprint could be such.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else str(value)


def _taken(text: io.StringIO) -> bytes:
    """What was written since the last call."""
    taken = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return taken
