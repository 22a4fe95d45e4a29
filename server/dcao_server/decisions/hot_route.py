"""A route that FastAPI documents and Starlette's bare ASGI serves.

FastAPI's own handler costs 0.1–0.3 ms a request (dependencies, a second validation of body and answer). The endpoint's
signature is the documentation; `handler` reads the body's bytes and sends bytes.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from dcao_proto import ProblemError, ProblemKind, paths
from dcao_proto.message import Message
from dcao_proto.problem import FieldError
from dcao_server.asgi.direct import DirectRoute

T = TypeVar("T", bound=Message)
Handler = Callable[[Scope, bytes], Awaitable[tuple[bytes, dict[str, str] | None]]]
MOST_ERRORS = 20


class HotRoute(APIRoute):
    """An APIRoute whose application is a handler of bytes.

    Args:
        path: as for APIRoute.
        endpoint: its signature and docstring are the OpenAPI entry; it is not called.
        handler: takes the scope and the body; returns the JSON answer and further headers.
        options: as for APIRoute.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], *, handler: Handler, **options: Any) -> None:
        super().__init__(path, endpoint, **options)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            body, headers = await handler(scope, await _read(receive))
            raw = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            if headers:
                raw.extend((name.lower().encode(), value.encode()) for name, value in headers.items())
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            await send({"type": "http.response.body", "body": body})

        self.app = serve


class ShortcutApp(FastAPI):
    """FastAPI with a way past its own layers for one hot route.

    FastAPI's error handlers, telemetry, body limits, exit stack and routing are 30 µs a request. A decision passes
    the application's own middlewares only, of which the envelope turns what is raised into problem documents.
    """

    hot: HotRoute | None = None
    direct: DirectRoute | None = None
    """The same route for the runner's protocol, which passes ASGI by too; what is unusual still comes by ASGI."""
    _shortcut: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a decision by the shortcut, anything else as FastAPI does."""
        if self.hot is not None and scope["type"] == "http" and scope["method"] == "POST":
            parts = scope["path"].split("/")
            # paths.DECISIONS, spelled out
            if len(parts) == 7 and parts[6] == "decisions" and parts[4] == "runs" and parts[:3] == _START:
                scope["app"] = self
                scope["route"] = self.hot
                scope["path_params"] = {"project": parts[3], "run": parts[5]}
                if self._shortcut is None:
                    self._shortcut = self._wrapped(self.hot.app)
                await self._shortcut(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _wrapped(self, app: ASGIApp) -> ASGIApp:
        for middleware in reversed(self.user_middleware):
            app = middleware.cls(app, *middleware.args, **middleware.kwargs)
        return app


_START = paths.RUNS.split("/")[:3]


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect()  # half a body is none
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body", False):
            return body


def parse(message: type[T], body: bytes) -> T:
    """The message in a JSON body.

    Raises:
        ProblemError: malformed, if it is no JSON; invalid, if it does not fit, with place, text and kind of each error
            but never the input, which may hold a NaN or a secret.
    """
    try:
        return message.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(e["type"] == "json_invalid" for e in found):
        raise ProblemError(ProblemKind.MALFORMED, "expected a JSON document as body, got something else")
    fields = tuple(FieldError(loc=("body", *e["loc"]), msg=e["msg"], type=e["type"]) for e in found[:MOST_ERRORS])
    raise ProblemError(
        ProblemKind.INVALID,
        f"expected a {message.__name__} (see /openapi.json), got {len(found)} fields that do not fit",
        errors=fields,
    )
