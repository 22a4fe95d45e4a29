"""A route that FastAPI documents and Starlette's bare ASGI serves.

FastAPI's own handler costs 0.1–0.3 ms a request (dependencies, a second validation of body and answer). The endpoint's
signature is the documentation; `handler` reads the body's bytes and sends bytes.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from dcao_proto import paths
from dcao_server.asgi.body import read_body
from dcao_server.asgi.direct import DirectRoute

Handler = Callable[[Scope, bytes], Awaitable[tuple[bytes, dict[str, str] | None]]]
MOST_BYTES = 1 << 40
"""The envelope has held the body to its route's limit."""


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
            body, headers = await handler(scope, await read_body(receive, MOST_BYTES))
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
