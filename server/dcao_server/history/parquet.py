"""Histories as Parquet, streamed: one row group at a time. Needs the extra `parquet`."""

from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from dcao_proto import ProblemError, ProblemKind, Record
from dcao_server.history.columns import COLUMNS
from dcao_server.history.formats import Batches

ROWS_PER_GROUP = 10_000
"""About 20 MB of values while a group is built."""
_TYPES = {"int": "int64", "float": "float64", "text": "string", "bool": "bool"}


class _Outbox:
    """A file that keeps what was written until somebody takes it."""

    def __init__(self) -> None:
        self.closed = False
        self._position = 0
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def require_pyarrow() -> None:
    """Says how to get it.

    Raises:
        ProblemError: not-acceptable; this controller is installed without pyarrow.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ProblemError(
            ProblemKind.NOT_ACCEPTABLE,
            "expected a controller with pyarrow, which this one lacks: pip install 'dcao[parquet]' there, or ask for "
            "format=csv or format=ndjson",
        ) from error


async def parquet(batches: Batches) -> AsyncIterator[bytes]:
    """The file in pieces. Compression runs in a thread, so decisions go on meanwhile."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([pa.field(column.name, pa.type_for_alias(_TYPES[column.kind])) for column in COLUMNS])
    outbox = _Outbox()
    writer = pq.ParquetWriter(pa.PythonFile(outbox, mode="w"), schema, compression="zstd")
    columns: list[list[Any]] = [[] for _ in COLUMNS]

    def write_group() -> bytes:
        arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        for values in columns:
            values.clear()
        return outbox.take()

    try:
        async for batch in batches:
            _collect(columns, batch)
            if len(columns[0]) >= ROWS_PER_GROUP:
                yield await run_in_threadpool(write_group)
        if columns[0]:
            yield await run_in_threadpool(write_group)
    finally:
        writer.close()
    yield outbox.take()


def _collect(columns: list[list[Any]], batch: list[Record]) -> None:
    for column, values in zip(COLUMNS, columns, strict=True):
        values.extend(column.read(record) for record in batch)
