"""Where the audit trail is kept: a capped Redis stream, or rotated JSON lines beside the SQLite file."""

import asyncio
import contextlib
import logging
import logging.handlers
from pathlib import Path

from dcao_server.security.audit import AuditEvent
from dcao_server.security.own_redis import OwnRedis
from dcao_server.store.keys import PREFIX

AUDIT_KEY = f"{PREFIX}:audit"
REFUSALS_KEY = f"{PREFIX}:audit:refused"
AUDIT_FILE = "audit.jsonl"
REFUSALS_FILE = "audit-refused.jsonl"
FILE_BYTES, FILES = 10 * 1024 * 1024, 5
"""Of each file, and how many older ones are kept: twice 60 MiB, some 200,000 events each."""


class AuditInRedis:
    """Two streams of at most about `max_events`, one of refusals; one entry an event, its JSON in field `e`."""

    def __init__(self, redis: OwnRedis, max_events: int) -> None:
        self._redis = redis
        self._max_events = max_events

    async def write(self, events: list[AuditEvent]) -> None:
        """See AuditSink; one round trip for all."""
        async with self._redis.client.pipeline(transaction=False) as pipeline:
            for event in events:
                key = REFUSALS_KEY if event.refusal else AUDIT_KEY
                pipeline.xadd(key, {"e": event.model_dump_json()}, maxlen=self._max_events, approximate=True)
            await pipeline.execute()


class _Handler(logging.handlers.RotatingFileHandler):
    """The standard library's, which prints a trace to standard error where a disk is full; ours tells its caller."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the library's name)
        """Raises what was just caught."""
        raise


class AuditFile:
    """`audit.jsonl` and `audit-refused.jsonl` in a folder, rotated; readable by their owner only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def write(self, events: list[AuditEvent]) -> None:
        """See AuditSink; in a thread, because a disk may be slow."""
        await asyncio.to_thread(self._write, events)

    def _write(self, events: list[AuditEvent]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, refusals in ((AUDIT_FILE, False), (REFUSALS_FILE, True)):
            self._append(self.folder / name, [event for event in events if event.refusal is refusals])

    def _append(self, path: Path, events: list[AuditEvent]) -> None:
        if not events:
            return
        path.touch(mode=0o600)
        handler = _Handler(path, maxBytes=FILE_BYTES, backupCount=FILES)
        with contextlib.closing(handler):
            for event in events:
                handler.emit(logging.makeLogRecord({"msg": event.model_dump_json()}))
