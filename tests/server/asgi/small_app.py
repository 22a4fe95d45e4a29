"""An application with the outer layers and a few routes, and a client that talks to it in-process."""

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict

from dcao_proto.problem import ProblemError, ProblemKind
from dcao_server.asgi import install
from dcao_server.asgi.context import current_request_id
from dcao_server.settings import Settings

DECISIONS = "/v1/projects/vision/runs/r1/decisions"


class Body(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)
    rho: float


def small_app(settings: Settings) -> FastAPI:
    """Routes that answer, refuse, fail, read their body, and serve a page."""
    app = FastAPI()

    @app.post("/v1/projects/{project}/runs/{run}/decisions")
    async def decide(body: Body) -> dict[str, Any]:
        return {"rho": body.rho, "request": current_request_id()}

    @app.get("/v1/projects/{project}/runs/{run}/decisions")
    async def read() -> dict[str, str]:
        return {}

    @app.put("/v1/projects/{project}/runs/{run}")
    async def put(request: Request) -> Response:
        return Response(str(len(await request.body())))

    @app.delete("/v1/projects/{project}/runs/{run}", status_code=204)
    async def delete() -> None:
        pass

    @app.post("/v1/projects/{project}/runs/{run}/decisions:backfill")
    async def backfill(request: Request) -> int:
        return len(await request.body())

    @app.get("/v1/policies")
    async def policies() -> list[str]:
        return []

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    @app.get("/metrics/runs")
    async def metrics() -> str:
        return ""

    @app.get("/")
    async def page() -> Response:
        return Response("<html></html>", media_type="text/html")

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError("a secret that must not leave")

    @app.get("/refused")
    async def refused() -> None:
        raise ProblemError(ProblemKind.STORE_UNAVAILABLE, "the store is away", headers={"Retry-After": "1"})

    install(app, settings)
    return app


@contextlib.asynccontextmanager
async def client_of(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client on the application, its lifespan running."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", **options) as client:
            yield client


def messages(caplog: Any, name: str) -> list[logging.LogRecord]:
    """What a logger of this name said."""
    return [record for record in caplog.records if record.name == name]
