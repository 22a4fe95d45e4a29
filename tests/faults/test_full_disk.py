"""What a full disk under Redis costs: what docs/operation.md says of it, found out with a real one."""

import contextlib
import time
from pathlib import Path

import redis

from tests.components.redis_server import RedisServer
from tests.components.small_disk import fill, small_disk

PACE = 0.002
SECONDS = 2.5
"""Redis writes its append-only file once in a second or when it is idle, and may be a second behind that."""


def test_a_full_disk_and_a_crash_lose_the_last_seconds_and_nothing_else(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "redis") as disk:
        server = RedisServer(disk)
        acknowledged: list[float] = []

        def write(until: float) -> bool:
            """Appends until a time; False when Redis refuses."""
            with server.client() as client:
                while time.monotonic() < until:
                    try:
                        client.rpush("history", len(acknowledged))
                    except redis.ResponseError:
                        return False
                    acknowledged.append(time.monotonic())
                    time.sleep(PACE)
            return True

        assert write(time.monotonic() + 1)
        filler = fill(disk)
        full = time.monotonic()
        assert not write(full + 10), "it refuses soon"
        refused = time.monotonic()
        with server.client() as client:
            assert client.llen("history") == len(acknowledged), "reading goes on, of all that was acknowledged"
        server.kill()
        filler.unlink()
        server.start()
        with server.client() as client:
            kept = client.llen("history")
            assert client.lrange("history", 0, -1) == [str(i).encode() for i in range(kept)], "a beginning, whole"
        server.kill()
    lost = acknowledged[kept:]
    print(f"{len(lost)} of {len(acknowledged)} lost, from {full - min(lost, default=full):.2f} s before it was full")
    assert refused - full < SECONDS
    assert all(at > full - SECONDS for at in lost)


def test_when_there_is_room_again_nothing_was_lost(tmp_path: Path) -> None:
    with small_disk(tmp_path / "redis") as disk:
        server = RedisServer(disk)
        with server.client() as client:
            filler = fill(disk)
            count = 0
            with contextlib.suppress(redis.ResponseError):
                while count < 5000:
                    count = int(client.rpush("history", count))
                    time.sleep(PACE)
            assert 0 < count < 5000
            filler.unlink()
            for _ in range(100):
                try:
                    assert client.rpush("history", count) == count + 1
                    break
                except redis.ResponseError:
                    time.sleep(0.1)
        time.sleep(1.5)
        server.kill()
        server.start()
        with server.client() as client:
            assert client.llen("history") == count + 1
        server.kill()
