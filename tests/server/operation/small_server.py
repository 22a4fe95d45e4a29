"""The small application under the real runner: `python -m tests.server.operation.small_server`, set up by DCAO_…"""

import asyncio
import sys
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from dcao_server.asgi.runner import serve
from dcao_server.logging import configure_logging
from dcao_server.settings import Settings
from tests.server.asgi.small_app import small_app

settings = Settings()
app = small_app(settings)


@app.get("/readyz")
async def readyz() -> Response:
    return Response("no" if app.state.lifecycle.draining else "yes", 503 if app.state.lifecycle.draining else 200)


@app.get("/slow")
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        yield ": begin\n\n"
        await app.state.lifecycle.stopping.wait()
        yield ": end\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


configure_logging(settings.log_level, settings.log_format)
sys.exit(serve(app, settings, app.state.lifecycle))
