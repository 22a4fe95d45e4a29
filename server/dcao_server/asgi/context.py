"""Request IDs and W3C trace context of the request that is being answered."""

import itertools
import os
from contextvars import ContextVar
from typing import NamedTuple

_REQUEST_ID: ContextVar[str] = ContextVar("dcao_request_id", default="")
_ALLOWED = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_."
_HEX = b"0123456789abcdef"
MAX_REQUEST_ID = 64
_process = os.urandom(6).hex()
_numbers = itertools.count(1)


class TraceContext(NamedTuple):
    """Trace and parent span of a `traceparent` header, in hexadecimal."""

    trace_id: str
    span_id: str
    sampled: bool


def request_id_of(header: bytes | None) -> str:
    """The client's `X-Request-ID` if it is harmless in a log, else a new one: the process's 48 random bits and a count.

    Sets it for everything that this request's task logs.
    """
    if header and len(header) <= MAX_REQUEST_ID and not header.translate(None, _ALLOWED):
        request_id = header.decode("ascii")
    else:
        request_id = f"{_process}-{next(_numbers):x}"
    _REQUEST_ID.set(request_id)
    return request_id


def current_request_id() -> str:
    """The ID of the request that the current task answers; empty outside of one."""
    return _REQUEST_ID.get()


def trace_context(header: bytes | None) -> TraceContext | None:
    """The trace context of a `traceparent` header (https://www.w3.org/TR/trace-context/ §3.2), None if it is invalid.

    A later version of the format may append fields; version ff is forbidden.
    """
    parts = header.split(b"-") if header else []
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return None
    version, trace_id, span_id, flags = parts[:4]
    if b"".join(parts[:4]).translate(None, _HEX) or version == b"ff" or (version == b"00" and len(parts) > 4):
        return None
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return TraceContext(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & 1))
