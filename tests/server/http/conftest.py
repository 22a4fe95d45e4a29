"""The whole application, in process, over each store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from dcao_server.app import create_app
from dcao_server.settings import Settings
from tests.components.redis_server import RedisServer


@pytest_asyncio.fixture(params=["redis", "sqlite"], loop_scope="function")
async def app(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[FastAPI]:
    """A controller that has started."""
    settings = Settings(data=tmp_path)
    if request.param == "redis":
        with redis_server.client() as client:
            client.flushall()
        settings = Settings(data=tmp_path, redis_url=redis_server.url, redis_timeout_seconds=10.0)
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest_asyncio.fixture(loop_scope="function")
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """Asks it."""
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://localhost") as asking:
        yield asking
