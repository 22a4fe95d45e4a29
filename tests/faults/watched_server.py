"""A controller that says how long its event loop was held: `python -m tests.faults.watched_server`, set up by DCAO_…

It runs on asyncio's own loop, whose callbacks can be timed; `GET /-/held` tells of the longest since it was last asked.
"""

import json
import sys

from starlette.types import ASGIApp, Receive, Scope, Send

from dcao_server.app import create_app
from dcao_server.asgi.runner import ControllerServer, uvicorn_config
from dcao_server.logging import configure_logging
from dcao_server.settings import Settings
from tests.components.loop_watch import Held, watched

HELD = "/-/held"


class Telling:
    """Answers for what was held, and passes everything else on; it has the application's `direct` route."""

    def __init__(self, app: ASGIApp, held: Held) -> None:
        self.app = app
        self.held = held
        self.direct = getattr(app, "direct", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] != HELD:
            await self.app(scope, receive, send)
            return
        body = json.dumps({"seconds": self.held.seconds, "what": self.held.what}).encode()
        self.held.seconds, self.held.what = 0.0, ""
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serves until a signal."""
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    app = create_app(settings)
    with watched() as held:
        config = uvicorn_config(Telling(app, held), settings)
        config.loop = "asyncio"
        ControllerServer(config, app.state.lifecycle, 0).run()


if __name__ == "__main__":
    sys.exit(main())
