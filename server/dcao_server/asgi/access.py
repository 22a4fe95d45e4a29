"""The access log: one line for an answer, and audit events for what changed."""

from typing import Any, Literal

import structlog
from starlette.types import Scope

from dcao_server.asgi.context import trace_context
from dcao_server.security.audit import AuditEvent, AuditTrail
from dcao_server.security.guard import client_of
from dcao_server.security.keys import ApiKey

_log = structlog.get_logger("dcao.access")
AccessLog = Literal["off", "errors", "all"]
_DATA_PATHS = ("/decisions", ":backfill", ":replay", "/v1/decide")
"""The traffic of a run: its own history is the record of it."""


def wanted(access_log: AccessLog, status: int) -> bool:
    """Whether an answer with this status is logged."""
    return access_log == "all" or (access_log == "errors" and status >= 400)


def log_answer(scope: Scope, headers: dict[bytes, bytes], status: int, seconds: float, key: ApiKey | None) -> None:
    """One line. The query string is left out: it may hold what a client should not have put there."""
    fields: dict[str, Any] = {
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "seconds": round(seconds, 6),
        "client": client_of(scope),
    }
    if key is not None:
        fields["key"] = key.id
    trace = trace_context(headers.get(b"traceparent"))
    if trace is not None:
        fields["trace_id"] = trace.trace_id
    (_log.error if status >= 500 else _log.info)("request", **fields)


def audit_change(trail: AuditTrail, scope: Scope, status: int, key: ApiKey | None, request_id: str) -> None:
    """Notes a request that created, ended or deleted a run, or started an attempt."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS") or status >= 400 or scope["path"].endswith(_DATA_PATHS):
        return
    trail.note(
        AuditEvent(
            event="changed",
            key=key.id if key is not None else None,
            client=client_of(scope),
            method=scope["method"],
            path=scope["path"],
            status=status,
            request=request_id,
        )
    )
