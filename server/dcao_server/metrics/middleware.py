"""Counts and times every request, as plain ASGI: no buffering, no task per request."""

import json
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dcao_proto.problem import PROBLEM_MEDIA_TYPE, TYPE_PREFIX
from dcao_server.metrics.service import Metrics

UNMATCHED = "unmatched"  # no route: scanners and typing errors share one series
STATIC = "/static"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_CLOSED = 499  # what proxies log when the client went away before the answer began
_EVENTS = b"text/event-stream"
_PROBLEM = PROBLEM_MEDIA_TYPE.encode()


class RequestMetrics:
    """Counts and times each HTTP request under its route's template.

    An event stream lives as long as its reader; it is counted as a request but not timed.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and counts the answer, also when the application raises."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status, media_type = CLIENT_CLOSED, b""

        async def noting(message: Message) -> None:
            nonlocal status, media_type
            if message["type"] == "http.response.start":
                status = message["status"]
                media_type = next((value for name, value in message["headers"] if name == b"content-type"), b"")
            elif media_type == _PROBLEM:
                self.metrics.problem(_problem_slug(message.get("body", b"")))
            await send(message)

        try:
            with self.metrics.request_in_progress():
                await self.app(scope, receive, noting)
        except Exception:
            status = 500
            raise
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds = None if media_type.startswith(_EVENTS) else time.perf_counter() - started
            self.metrics.http(route_template(scope), method, status, seconds)


def route_template(scope: Scope) -> str:
    """The template of the route that matched, `/v1/projects/{project}/runs`; never a client's own text."""
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        return path
    if scope.get("root_path") == STATIC or scope["path"].startswith(STATIC + "/"):
        return STATIC
    return UNMATCHED


def _problem_slug(body: bytes) -> str:
    """The kind of a problem document, which is one part and small; whoever answered it need not be asked to count."""
    try:
        return str(json.loads(body)["type"]).removeprefix(TYPE_PREFIX)
    except (ValueError, LookupError, TypeError):
        return ""
