"""The outermost layer: what holds for every request, whatever route it takes.

One class rather than a stack of middlewares: each layer of a stack costs a wrapped `send` and a pass over the headers,
and a decision is a quarter of a millisecond.
"""

import time
from functools import partial

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dcao_proto.problem import PROBLEM_MEDIA_TYPE, ProblemError, ProblemKind
from dcao_server.asgi.access import audit_change, log_answer, wanted
from dcao_server.asgi.body import BACKFILL, BodyLimits, check_body, taken
from dcao_server.asgi.context import request_id_of
from dcao_server.asgi.doors import Doors
from dcao_server.asgi.headers import Header, completed
from dcao_server.asgi.lifecycle import Lifecycle
from dcao_server.asgi.problems import INTERNAL_DETAIL, problem_body
from dcao_server.security.guard import Guard
from dcao_server.security.keys import ApiKey
from dcao_server.settings import Settings

_log = structlog.get_logger(__name__)

KEY = "dcao.key"
"""Where a route finds the caller's API key in the scope; None where keys are off."""
STILL = "dcao.still"
"""Where a route that answers for long finds whether the caller still may have what it asked for."""


class Envelope:
    """Request ID, admission, limits on the body, problem documents for what was raised, headers, access log."""

    def __init__(self, app: ASGIApp, settings: Settings, guard: Guard, lifecycle: Lifecycle) -> None:
        self.app = app
        self._guard = guard
        self._lifecycle = lifecycle
        self._access_log = settings.access_log
        self._limits = BodyLimits(settings)
        self._doors = Doors(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; raises only when an answer that had begun cannot be finished."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = request_id_of(headers.get(b"x-request-id"))
        answer = _Answer(send, request_id, closing=self._lifecycle.draining)
        key: ApiKey | None = None
        try:
            self._doors.check(scope["method"], scope.get("http_version", "1.1"), scope["headers"], headers)
            scope[KEY] = key = await self._guard.admit(scope, headers, request_id)
            scope[STILL] = partial(self._guard.still, key, scope)
            limit = self._limits.of(scope["method"], scope["path"])
            if check_body(scope["method"], headers, limit):
                receive = await taken(receive, limit, sliced=scope["path"].endswith(BACKFILL))
            await self.app(scope, receive, answer)
        except ClientDisconnect:
            return
        except Exception as error:
            if answer.status:
                raise  # half an answer is out: the server closes the connection, which is how HTTP/1.1 says so
            await answer.problem(as_problem(error))
        if answer.status:
            audit_change(self._guard.trail, scope, answer.status, key, request_id)
            if wanted(self._access_log, answer.status):
                log_answer(scope, headers, answer.status, time.perf_counter() - started, key)


class _Answer:
    """`send`, which notes the status and completes the headers."""

    __slots__ = ("_closing", "_request_id", "_send", "status")

    def __init__(self, send: Send, request_id: str, *, closing: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._closing = closing
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = completed(message["headers"], self._request_id, closing=self._closing)
        await self._send(message)

    async def problem(self, error: ProblemError) -> None:
        body = problem_body(error, self._request_id)
        headers = problem_headers(error, body)
        await self({"type": "http.response.start", "status": error.kind.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def as_problem(error: Exception) -> ProblemError:
    """What to answer for what was raised; what is no problem document is logged with its trace."""
    if isinstance(error, ProblemError):
        return error
    _log.error("request failed", exc_info=error)
    return ProblemError(ProblemKind.INTERNAL, INTERNAL_DETAIL)


def problem_headers(error: ProblemError, body: bytes) -> list[Header]:
    """A problem document's own headers, to be completed."""
    own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    own.append((b"content-type", PROBLEM_MEDIA_TYPE.encode()))
    own.append((b"content-length", str(len(body)).encode()))
    return own
