"""The hostile writer, a little of it in every run of the suite; much more with `-m slow`."""

from pathlib import Path

import pytest

from tests.components.redis_server import RedisServer
from tests.faults.hostile_requests import Hostile
from tests.faults.hostile_writer import run


def test_the_same_seed_sends_the_same() -> None:
    first, second = Hostile(3), Hostile(3)
    assert [first.request() for _ in range(200)] == [second.request() for _ in range(200)]
    assert Hostile(4).request() != Hostile(3).request()


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_nothing_that_a_writer_sends_hurts(tmp_path: Path, redis_server: RedisServer, store: str) -> None:
    environ = {"DCAO_REDIS_URL": redis_server.url, "DCAO_REDIS_TIMEOUT_SECONDS": "5"} if store == "redis" else {}
    seen = run(1 if store == "sqlite" else 2, 300, tmp_path, **environ)
    assert seen.faults == []
    assert seen.statuses.get(200, 0) > 30
    assert seen.statuses.get(422, 0) > 30


@pytest.mark.slow
@pytest.mark.timeout(3600)  # two and a half minutes when idle, and more than five on a busy machine
@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_many_writers_send_hurts(tmp_path: Path, seed: int) -> None:
    assert run(seed, 5000, tmp_path).faults == []
