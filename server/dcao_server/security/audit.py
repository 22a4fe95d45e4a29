"""The audit trail: who was refused and why, and who created, ended or deleted what.

Events are collected in memory and written about twice a second, so that no request waits for a disk. Equal refusals in
between become one event with a count. Refusals are kept apart from changes, here and where they are written: whoever is
refused chooses how many there are, and must not flush a change out of a trail of bounded length.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, Field

from dcao_server.ending import LAST_SECONDS, end, finish

_log = structlog.get_logger("dcao.audit")
FLUSH_SECONDS = 0.5
MAX_WAITING = 1000
"""Different events held until the next write; more are counted and reported as one."""
MAX_TEXT = 200
REFUSED = "refused"


class AuditEvent(BaseModel):
    """One entry. No key, no secret, no query string, no body."""

    model_config = ConfigDict(frozen=True)

    event: str = Field(
        description="refused, changed, key (created or revoked), or dropped (too many at once; `count` says how many)."
    )
    reason: str = Field(
        default="",
        description="Of a refusal: no-key, malformed, unknown, wrong-secret, expired, key-in-query, scope, project or "
        "rate; of dropped refusals: refused.",
    )
    key: str | None = Field(default=None, description="Id of the API key, when it is a known one.")
    client: str = Field(default="", description="Address of the client.")
    method: str = ""
    path: str = ""
    status: int = 0
    request: str = Field(default="", description="Request ID of the first of `count`.")
    at: float = Field(default_factory=time.time, description="Seconds since the epoch, of the first of `count`.")
    count: int = 1

    @property
    def refusal(self) -> bool:
        """Whether it goes where it cannot displace a change."""
        return REFUSED in (self.event, self.reason)


class AuditSink(Protocol):
    """Where events go for good."""

    async def write(self, events: list[AuditEvent]) -> None:
        """Append; may raise anything, the trail logs it."""


class AuditTrail:
    """Collects events, writes them in the background, and says each in the log.

    Args:
        sink: where they go; None keeps them in the log only.
        flush_seconds: between writes.
    """

    def __init__(self, sink: AuditSink | None, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._sink = sink
        self._flush_seconds = flush_seconds
        self._waiting: dict[bool, dict[tuple[Any, ...], AuditEvent]] = {True: {}, False: {}}
        self._dropped = {True: 0, False: 0}

    def note(self, event: AuditEvent) -> None:
        """Take an event; returns at once."""
        # A refusal is the same refusal whatever the path: who, from where, why. Changes are told apart.
        where = (event.method, event.path) if event.event == "changed" else ()
        what = (event.event, event.reason, event.key, event.client, event.status, *where)
        waiting = self._waiting[event.refusal]
        known = waiting.get(what)
        if known is not None:
            waiting[what] = known.model_copy(update={"count": known.count + 1})
        elif len(waiting) < MAX_WAITING:
            waiting[what] = event.model_copy(update={"path": event.path[:MAX_TEXT], "client": event.client[:64]})
        else:
            self._dropped[event.refusal] += 1

    async def flush(self) -> None:
        """Write what is waiting. A sink that fails loses these events from the trail, not from the log."""
        events = self._taken(refusals=False) + self._taken(refusals=True)
        if not events:
            return
        for event in events:
            fields = event.model_dump(exclude={"event"}, exclude_defaults=True)
            (_log.warning if event.event == "refused" else _log.info)(f"audit: {event.event}", **fields)
        if self._sink is None:
            return
        try:
            await self._sink.write(events)
        except Exception as error:  # noqa: BLE001 - an audit trail that cannot be written must not stop the service
            _log.error("audit events not written; they are in this log only", events=len(events), error=repr(error))

    def _taken(self, *, refusals: bool) -> list[AuditEvent]:
        events, self._waiting[refusals] = list(self._waiting[refusals].values()), {}
        if self._dropped[refusals]:
            events.append(
                AuditEvent(event="dropped", reason=REFUSED if refusals else "", count=self._dropped[refusals])
            )
            self._dropped[refusals] = 0
        return events

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Writes in the background while the block runs, and what is left at its end."""
        stopping = asyncio.Event()
        task = asyncio.create_task(self._flush_until(stopping), name="audit")
        try:
            yield
        finally:
            stopping.set()
            await end(task, grace=LAST_SECONDS)  # what is being written is not interrupted, or it would be lost
            await finish("last audit events", self.flush())

    async def _flush_until(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._flush_seconds):
                    await stopping.wait()
            await self.flush()
