"""Keys and audit trail in a real Redis, on the real application: shared by replicas, and they outlive an outage."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from dcao_server.main import main
from dcao_server.security.audit_sinks import AUDIT_KEY, REFUSALS_KEY
from dcao_server.security.key_sources import REDIS_KEY, KeysInRedis
from dcao_server.security.keys import Scope, create_key
from dcao_server.security.own_redis import OwnRedis
from dcao_server.settings import Settings
from tests.components.redis_server import RedisServer
from tests.server.operation.process import Server, running

SERVE = ("-m", "dcao_server.main", "serve")


@pytest.fixture
def server(mortal_redis: RedisServer, tmp_path: Path) -> Iterator[Server]:
    settings = {
        "DCAO_REDIS_URL": mortal_redis.url,
        "DCAO_API_KEYS_IN_REDIS": "true",
        "DCAO_API_KEYS_REFRESH_SECONDS": "0.2",
        "DCAO_DRAIN_SECONDS": "0",
    }
    with running(tmp_path / "log", *SERVE, **settings) as server:
        yield server


def new_key(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scope: str = "write"
) -> str:
    """A key made by the command, in Redis."""
    monkeypatch.setenv("DCAO_REDIS_URL", redis.url)
    assert main(["keys", "create", "--redis", "--project", "vision", "--scope", scope]) == 0
    return capsys.readouterr().out.strip()


def ask(server: Server, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{server.url}/v1/projects/vision/runs", headers=headers, trust_env=False).status_code


def wait_for(server: Server, key: str, status: int) -> None:
    deadline = time.monotonic() + 10
    while (got := ask(server, key)) != status:
        assert time.monotonic() < deadline, f"expected {status}, got {got}"
        time.sleep(0.05)


def test_a_key_made_by_the_command_counts_at_once_and_a_revoked_one_no_longer(
    server: Server, mortal_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(server, "dcao_abcdef_00") == 401
    key = new_key(mortal_redis, monkeypatch, capsys)
    wait_for(server, key, 200)
    assert main(["keys", "list", "--redis"]) == 0
    assert key.split("_")[1] in capsys.readouterr().out
    with mortal_redis.client() as client:
        assert key.split("_")[2].encode() not in b"".join(client.hgetall(REDIS_KEY).values())
    assert main(["keys", "revoke", "--redis", key.split("_")[1]]) == 0
    wait_for(server, key, 401)


def test_an_outage_of_redis_locks_nobody_out(
    server: Server, mortal_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Workers go on with their keys; the store's own answer is 503, not 401."""
    key = new_key(mortal_redis, monkeypatch, capsys)
    wait_for(server, key, 200)
    mortal_redis.kill()
    time.sleep(0.5)
    assert ask(server, key) == 503
    assert ask(server, "dcao_abcdef_00") == 401
    mortal_redis.start()
    wait_for(server, key, 200)


def test_before_the_keys_were_ever_read_a_request_is_told_to_try_again(
    server: Server, mortal_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Redis absent at the start is tolerated, and a good key is not called a bad one."""
    key = new_key(mortal_redis, monkeypatch, capsys)
    assert server.url
    mortal_redis.kill()
    assert ask(server, key) == 503
    mortal_redis.start()
    wait_for(server, key, 200)


def test_refusals_and_changes_are_in_the_audit_stream(
    server: Server, mortal_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = new_key(mortal_redis, monkeypatch, capsys)
    run = f"{server.url}/v1/projects/vision/runs/r1"
    spec = {"optimizer": "sgd", "base": {"lr": 0.1}}
    wait_for(server, writer, 200)
    headers = {"authorization": f"Bearer {writer}"}
    with httpx.Client(trust_env=False) as client:
        assert client.put(run, json=spec).status_code == 401
        assert client.put(run, json=spec, headers=headers).status_code == 201
        assert client.delete(run, headers=headers).status_code == 403
        assert client.put(run.replace("vision", "speech"), json=spec, headers=headers).status_code == 403
        assert client.get(f"{run}?key={writer}").status_code == 401
    time.sleep(1)
    with mortal_redis.client() as client:
        events = [json.loads(f[b"e"]) for key in (AUDIT_KEY, REFUSALS_KEY) for _, f in client.xrange(key)]
        assert b"refused" not in b"".join(fields[b"e"] for _, fields in client.xrange(AUDIT_KEY))
    assert {(e["event"], e["reason"]) for e in events} == {
        ("key", "created"),
        ("refused", "no-key"),
        ("changed", ""),
        ("refused", "scope"),
        ("refused", "project"),
        ("refused", "key-in-query"),
    }
    assert writer.split("_")[2] not in str(events)


async def test_a_record_that_is_none_locks_nobody_out(mortal_redis: RedisServer) -> None:
    """Half a backup, another program: those whose keys are there come in, also after the controller starts anew."""
    redis = OwnRedis(Settings(redis_url=mortal_redis.url, redis_timeout_seconds=10.0))
    source = KeysInRedis(redis)
    _, record = create_key({"vision": Scope.WRITE})
    await source.add(record)
    with mortal_redis.client() as client:
        client.hset(REDIS_KEY, mapping={b"\xff": b"\xff\xfe", "x": "{}", "y": "", "z": '{"id": "' + "9" * 10_000})
    with capture_logs() as logs:
        for _ in range(3):
            assert await source.load() == {record.id: record}
    assert {line["field"] for line in logs if line["event"] == "an API key record is not read"} == {"\ufffd", "x", "z"}
    assert len(logs) == 3
    await redis.close()
