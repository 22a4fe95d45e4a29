"""Every store, opened on an empty place."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dcao_server.store.contract import HistoryStore
from tests.components.redis_server import RedisServer
from tests.server.store.opening import redis_store, sqlite_store


@pytest_asyncio.fixture(params=["redis", "sqlite"], loop_scope="function")
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> AsyncIterator[HistoryStore]:
    """One of the two stores, empty."""
    if request.param == "redis":
        with redis_server.client() as client:
            client.flushall()
        opened: HistoryStore = redis_store(redis_server.url)
    else:
        opened = sqlite_store(tmp_path)
    await opened.open()
    yield opened
    await opened.close()
