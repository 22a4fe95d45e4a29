"""Real components, started once for all tests or once for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.components.controller import Controller
from tests.components.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server that nobody kills."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller on the embedded store that nobody kills."""
    server = Controller(tmp_path_factory.mktemp("controller"))
    yield server
    server.kill()


@pytest.fixture
def mortal_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server of one test, to be killed."""
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


@pytest.fixture
def mortal_controller(tmp_path: Path, mortal_redis: RedisServer) -> Iterator[Controller]:
    """A controller of one test on a Redis of its own, to be killed."""
    server = Controller(tmp_path / "controller", redis_url=mortal_redis.url)
    yield server
    server.kill()
