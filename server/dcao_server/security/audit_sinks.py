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
AUDIT_FILE = "audit.jsonl"
FILE_BYTES, FILES = 10 * 1024 * 1024, 5
"""Of each file, and how many older ones are kept: 60 MiB, some 200,000 events."""


class AuditInRedis:
    """A stream of at most about `max_events`, one entry an event, its JSON in field `e`."""

    def __init__(self, redis: OwnRedis, max_events: int) -> None:
        self._redis = redis
        self._max_events = max_events

    async def write(self, events: list[AuditEvent]) -> None:
        """See AuditSink; one round trip for all."""
        async with self._redis.client.pipeline(transaction=False) as pipeline:
            for event in events:
                pipeline.xadd(AUDIT_KEY, {"e": event.model_dump_json()}, maxlen=self._max_events, approximate=True)
            await pipeline.execute()


class AuditFile:
    """`audit.jsonl` in a folder, rotated by the standard library's handler; readable by its owner only."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / AUDIT_FILE

    async def write(self, events: list[AuditEvent]) -> None:
        """See AuditSink; in a thread, because a disk may be slow."""
        await asyncio.to_thread(self._write, events)

    def _write(self, events: list[AuditEvent]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch(mode=0o600)
        handler = logging.handlers.RotatingFileHandler(self.path, maxBytes=FILE_BYTES, backupCount=FILES)
        with contextlib.closing(handler):
            for event in events:
                handler.emit(logging.makeLogRecord({"msg": event.model_dump_json()}))
