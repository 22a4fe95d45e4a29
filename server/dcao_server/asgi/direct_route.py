"""What holds for every request, for those that the protocol hands over itself: `RequestMetrics` and `Envelope` at once.

It is written with the functions that those two are written with, and a test sends the same requests both ways.
"""

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from dcao_proto.message import NAME_PATTERN
from dcao_proto.problem import ProblemError
from dcao_server.asgi.access import log_answer, wanted
from dcao_server.asgi.context import request_id_of
from dcao_server.asgi.direct import DirectRequest, head_of
from dcao_server.asgi.doors import Doors
from dcao_server.asgi.envelope import as_problem, problem_headers
from dcao_server.asgi.headers import completed
from dcao_server.asgi.lifecycle import Lifecycle
from dcao_server.asgi.problems import problem_body
from dcao_server.metrics import Metrics
from dcao_server.metrics.middleware import CLIENT_CLOSED
from dcao_server.security.guard import Guard
from dcao_server.settings import Settings

Handler = Callable[[tuple[str, ...], bytes], Awaitable[tuple[bytes, dict[str, str] | None]]]

_OK_HEAD = head_of(completed([(b"content-type", b"application/json"), (b"content-length", b"%d")], "%b", closing=False))
"""Of nearly every answer; takes the body's length and the request's ID."""


class GuardedRoute:
    """A route for POSTs of JSON, with everything around it.

    Args:
        template: of its path, with the names in braces, as metrics have it.
        handler: takes the names in the path and the body; returns the JSON answer and further headers.
        guard: admits.
        lifecycle: says when connections are to be closed.
        metrics: count.
        settings: access log and trusted proxies.
    """

    def __init__(
        self,
        template: str,
        handler: Handler,
        *,
        guard: Guard,
        lifecycle: Lifecycle,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._template = template
        self._handler = handler
        self._guard = guard
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._access_log = settings.access_log
        self._doors = Doors(settings)
        name = f"({NAME_PATTERN.removeprefix('^').removesuffix('$')})"
        self._match = re.compile(re.sub(r"\{\w+\}", lambda _: name, template).encode()).fullmatch
        self._forwarded = ProxyHeadersMiddleware(_unused, settings.forwarded_allow_ips)

    def names_in(self, target: bytes) -> tuple[str, ...] | None:
        """The names in a path of this route; None for another, one with a query, or one with names that are none."""
        match = self._match(target)
        return None if match is None else tuple(map(bytes.decode, match.groups()))

    async def answer(self, request: DirectRequest) -> None:
        """Answers one request, whatever is raised."""
        started = time.perf_counter()
        status, key = CLIENT_CLOSED, None
        headers = request.headers
        forwarded = b"x-forwarded-for" in headers
        scope = _scope_of(request) if forwarded or self._guard.locked else None
        if forwarded:
            await self._forwarded(scope, _unused, _unused)  # type: ignore[arg-type]  # as much of a scope as it reads
        request_id = request_id_of(headers.get(b"x-request-id"))
        with self._metrics.request_in_progress():
            try:
                self._doors.check_host(headers[b"host"])
                if scope is not None:
                    key = await self._guard.admit(scope, headers, request_id)
                body, more = await self._handler(request.names, await request.body())
                status, head = 200, _head(body, more, request_id)
            except ClientDisconnect:
                pass
            except Exception as error:  # noqa: BLE001  (as in the envelope: every answer that is none is a problem document)
                problem = as_problem(error)
                body = problem_body(problem, request_id)
                status, head = problem.kind.status, _problem_head(problem, body, request_id)
                self._metrics.problem(problem.kind.slug)
            if status != CLIENT_CLOSED:
                request.keep_alive = request.keep_alive and not self._lifecycle.draining
                if request.paused:
                    await request.drain()
                request.send(status, head, body)
        seconds = time.perf_counter() - started
        self._metrics.http(self._template, "POST", status, seconds)
        if status != CLIENT_CLOSED and wanted(self._access_log, status):
            log_answer(scope or _scope_of(request), headers, status, seconds, key)


def _scope_of(request: DirectRequest) -> dict[str, Any]:
    """What the guard, the log and the proxy's headers want to know."""
    return {
        "type": "http",
        "method": "POST",
        "path": request.target.decode("ascii"),
        "query_string": b"",
        "headers": request.header_list,
        "client": request.client,
        "server": request.server,
    }


def _head(body: bytes, more: dict[str, str] | None, request_id: str) -> bytes:
    head = _OK_HEAD % (len(body), request_id.encode("ascii"))
    if more:
        head += head_of([(name.lower().encode(), value.encode()) for name, value in more.items()])
    return head


def _problem_head(problem: ProblemError, body: bytes, request_id: str) -> bytes:
    return head_of(completed(problem_headers(problem, body), request_id, closing=False))


async def _unused(*_: object) -> Any:
    """What ASGI wants, and nobody calls."""
