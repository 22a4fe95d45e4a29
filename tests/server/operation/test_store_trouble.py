"""What a store can answer, provoked with the real one: said in the log once, in readiness, metrics and problems."""

import asyncio
import contextlib
import re
import socket
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from fastapi import FastAPI
from structlog.testing import capture_logs

from dcao_experiments.controller_process import free_port
from dcao_server.app import create_app
from dcao_server.settings import Settings, SettingsError
from dcao_server.store import SQLITE_FILE, create_store
from dcao_server.store.redis_check import losses
from dcao_server.store.trouble import TroubleKind
from tests.components.redis_server import RedisServer
from tests.components.small_disk import fill, small_disk
from tests.server.http.asking import RUN, SPEC, decide, put, seen
from tests.server.store.topologies import _text, certificates, until

DOCS = Path(__file__).parents[3] / "docs" / "operation.md"
SITUATIONS: dict[str, Callable[[Path], "contextlib.AbstractContextManager[Settings]"]] = {}
Situation = Callable[[Path], Iterator[Settings]]


def situation(function: Situation) -> Situation:
    """Settings whose store is in the trouble that the function is named for."""
    SITUATIONS[function.__name__.replace("_", "-")] = contextlib.contextmanager(function)
    return function


@contextlib.contextmanager
def server(tmp: Path, *options: str, **settings: Any) -> Iterator[tuple[RedisServer, Settings]]:
    running = RedisServer(tmp / "redis", *options)
    try:
        yield running, Settings(data=tmp, redis_url=running.url, redis_timeout_seconds=2.0, **settings)
    finally:
        running.kill()


@situation
def unavailable(tmp: Path) -> Iterator[Settings]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    yield Settings(data=tmp, redis_url=f"redis://127.0.0.1:{port}")


@situation
def name(tmp: Path) -> Iterator[Settings]:
    yield Settings(data=tmp, redis_url="redis://no-such-host.invalid", redis_timeout_seconds=5.0)


@situation
def timeout(tmp: Path) -> Iterator[Settings]:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        yield Settings(data=tmp, redis_url=f"redis://127.0.0.1:{deaf.getsockname()[1]}", redis_timeout_seconds=0.1)


@situation
def auth(tmp: Path) -> Iterator[Settings]:
    with server(tmp) as (running, settings):
        with running.client() as client:
            client.config_set("requirepass", "right")
        yield settings.model_copy(update={"redis_url": type(settings.redis_url)(  # type: ignore[misc]
            f"redis://:wrong-password@127.0.0.1:{running.port}/0")})  # fmt: skip


@situation
def auth_unset(tmp: Path) -> Iterator[Settings]:
    with server(tmp) as (running, settings):
        with running.client() as client:
            client.config_set("requirepass", "right")
        yield settings


@situation
def clients(tmp: Path) -> Iterator[Settings]:
    with server(tmp) as (running, settings):
        holding = running.client()
        holding.config_set("maxclients", "1")
        yield settings
        holding.close()


@situation
def cluster(tmp: Path) -> Iterator[Settings]:
    """A node of a Redis Cluster that holds no slot: it points to the other for every key."""
    options = ("--cluster-enabled", "yes", "--cluster-port")
    holder, bare = (RedisServer(tmp / name, *options, str(free_port())) for name in ("holder", "bare"))
    try:
        with holder.client() as one, bare.client() as two:
            one.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            bus = holder._options[-1]
            two.execute_command("CLUSTER", "MEET", "127.0.0.1", str(holder.port), bus)
            until(lambda: "cluster_state:ok" in _text(two))
        yield Settings(data=tmp, redis_url=bare.url, redis_timeout_seconds=2.0)
    finally:
        holder.kill()
        bare.kill()


@situation
def permission(tmp: Path) -> Iterator[Settings]:
    with server(tmp) as (running, settings):
        with running.client() as client:
            client.acl_setuser(
                "reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@read", "+@connection"]
            )
        url = f"redis://reader:pw@127.0.0.1:{running.port}/0"
        yield settings.model_copy(update={"redis_url": type(settings.redis_url)(url)})  # type: ignore[misc]


@situation
def database(tmp: Path) -> Iterator[Settings]:
    with server(tmp) as (running, settings):
        url = f"redis://127.0.0.1:{running.port}/99"
        yield settings.model_copy(update={"redis_url": type(settings.redis_url)(url)})  # type: ignore[misc]


@contextlib.contextmanager
def with_tls(tmp: Path) -> Iterator[tuple[int, Path]]:
    """A Redis that speaks TLS on a port, and its authority."""
    ca, cert, key = certificates(tmp / "tls")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key))
    running = RedisServer(tmp / "redis", *options, "--tls-ca-cert-file", str(ca), "--tls-auth-clients", "no")
    try:
        yield port, ca
    finally:
        running.kill()


@situation
def tls(tmp: Path) -> Iterator[Settings]:
    with with_tls(tmp) as (port, _):  # an authority that nobody here knows
        yield Settings(data=tmp, redis_url=f"rediss://127.0.0.1:{port}", redis_timeout_seconds=2.0)


@situation
def tls_unasked(tmp: Path) -> Iterator[Settings]:
    with with_tls(tmp) as (port, _):
        yield Settings(data=tmp, redis_url=f"redis://127.0.0.1:{port}", redis_timeout_seconds=2.0)


@situation
def tls_unspoken(tmp: Path) -> Iterator[Settings]:
    with server(tmp) as (running, _):
        url = f"rediss://127.0.0.1:{running.port}/0"
        yield Settings(data=tmp, redis_url=url, redis_timeout_seconds=0.2)


@situation
def readonly(tmp: Path) -> Iterator[Settings]:
    with server(tmp) as (running, settings):
        with running.client() as client:
            client.replicaof("127.0.0.1", "1")
        yield settings


@situation
def full(tmp: Path) -> Iterator[Settings]:
    with server(tmp) as (running, settings):
        with running.client() as client:
            client.config_set("maxmemory", "1kb")
        yield settings


@situation
def full_disk(tmp: Path) -> Iterator[Settings]:
    with small_disk(tmp / "redis") as disk, server(tmp) as (running, settings):
        fill(disk)
        with running.client() as client, contextlib.suppress(redis.RedisError):
            for _ in range(100):  # until the append-only file could not be written
                client.set("a", "b" * 1000)
                time.sleep(0.05)
        yield settings


@situation
def loading(tmp: Path) -> Iterator[Settings]:
    with server(tmp) as (running, settings):
        with running.client() as client:
            client.config_set("min-replicas-to-write", "1")
        yield settings


@situation
def loading_data(tmp: Path) -> Iterator[Settings]:
    """A restart with so much to load that it takes a minute."""
    with server(tmp) as (running, settings):
        with running.client() as client, client.pipeline(transaction=False) as pipe:
            for i in range(30_000):
                pipe.set(f"key-{i}", "x" * 200)
            pipe.execute()
            client.bgrewriteaof()  # of the file's two formats the one in which it answers every kilobyte
            until(lambda: client.info("persistence")["aof_rewrites"] == 1)
            until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0)
        running.kill()
        running.start("--key-load-delay", "1500", "--loading-process-events-interval-bytes", "1024", loaded=False)
        yield settings


@situation
def protected(tmp: Path) -> Iterator[Settings]:
    """Without a password and asked from an address that is not the loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the address of this machine
        address = asking.getsockname()[0]
    with server(tmp, "--bind", "127.0.0.1", address) as (running, settings):
        url = f"redis://{address}:{running.port}/0"
        yield settings.model_copy(update={"redis_url": type(settings.redis_url)(url)})  # type: ignore[misc]


@situation
def full_file(tmp: Path) -> Iterator[Settings]:
    with small_disk(tmp / "disk") as disk:
        create = create_store(Settings(data=disk))
        asyncio.run(opened(create))
        fill(disk)
        yield Settings(data=disk)


@situation
def permission_file(tmp: Path) -> Iterator[Settings]:
    with small_disk(tmp / "disk") as disk:
        asyncio.run(opened(create_store(Settings(data=disk))))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield Settings(data=disk)


@situation
def corrupt(tmp: Path) -> Iterator[Settings]:
    (tmp / SQLITE_FILE).write_bytes(b"no database at all, but long enough to be looked at" * 100)
    yield Settings(data=tmp)


@situation
def locked(tmp: Path) -> Iterator[Settings]:
    asyncio.run(opened(create_store(Settings(data=tmp))))
    with contextlib.closing(sqlite3.connect(tmp / SQLITE_FILE)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield Settings(data=tmp)


async def opened(store: Any) -> None:
    await store.open()
    await store.close()


KINDS = {
    "auth-unset": "auth",
    "loading-data": "loading",
    "full-disk": "full",
    "full-file": "full",
    "tls-unasked": "unavailable",
    "tls-unspoken": "timeout",
    "permission-file": "permission",
}


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as client,
    ):
        yield app, client


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A decision of a healthy controller, to be echoed to one in trouble."""

    async def made() -> dict[str, Any]:
        async with serving(Settings(data=tmp_path_factory.mktemp("healthy"))) as (_, client):
            await put(client)
            return await decide(client, seen(10))

    return asyncio.run(made())


@pytest.mark.parametrize("what", SITUATIONS)
def test_what_the_store_answers_is_said_where_people_look(what: str, tmp_path: Path, token: dict[str, Any]) -> None:
    kind = next(k for k in TroubleKind if k.label == KINDS.get(what, what))

    async def ask(settings: Settings) -> None:
        with capture_logs() as logs:
            async with serving(settings) as (_, client):
                created = await client.put(RUN, json=SPEC)
                assert created.status_code == 503, created.text
                assert kind.fix in created.json()["detail"]
                for _ in range(3):
                    began = time.perf_counter()
                    answered = await client.post(RUN + "/decisions", json=seen(20, token))
                    assert time.perf_counter() - began < (2 if what == "locked" else 6)
                    assert answered.status_code == 200, answered.text
                    assert answered.json()["persisted"] is False
                    bare = await client.post(RUN + "/decisions", json=seen(20))
                    assert bare.status_code in (404, 503)
                    if bare.status_code == 503:
                        assert kind.fix in bare.json()["detail"]
                ready = await client.get("/readyz")
                assert ready.status_code == 503
                assert kind.fix in ready.json()["detail"]
                metrics = (await client.get("/metrics")).text
                assert "dcao_store_up 0.0" in metrics
                assert re.search(rf'dcao_store_errors_total{{kind="{kind.label}",op="\w+"}} [1-9]', metrics)
                assert (await client.get("/healthz")).status_code == 200
        said = [line for line in logs if line["event"] == "the store cannot be used"]
        assert [line["kind"] for line in said] == [kind.label], said
        assert said[0]["fix"] == kind.fix
        assert not [line for line in logs if line["event"] == "request failed"]
        assert "wrong-password" not in str(logs)

    with SITUATIONS[what](tmp_path) as settings:
        asyncio.run(ask(settings))


# What scripts and direct calls need, one at a time; `unlink` is for deleting, the sets and indexes are for listing.
NEEDED = ["hset", "hget", "hmget", "hdel", "hincrby", "xadd", "xrange", "expire", "del", "evalsha"]


@pytest.mark.parametrize("command", [*NEEDED, "unlink", "zadd", "zrange", "zrevrangebyscore", "hgetall"])
def test_a_user_who_may_not_do_one_thing_is_said_to_be(command: str, tmp_path: Path, token: dict[str, Any]) -> None:
    async def ask(settings: Settings) -> None:
        with capture_logs() as logs:
            async with serving(settings) as (_, client):
                answers = [
                    await client.put(RUN, json=SPEC),
                    await client.post(RUN + "/decisions", json=seen(20, token)),
                    await client.get(RUN),
                    await client.get("/v1/projects/vision/runs"),
                    await client.get("/metrics/runs"),
                    await client.delete(RUN),
                ]
                ready = await client.get("/readyz")
        assert not [line for line in logs if line["event"] == "request failed"]
        assert all(answer.status_code < 500 or answer.status_code == 503 for answer in answers)
        assert ready.status_code == (503 if command in NEEDED else 200)
        said = {line["kind"] for line in logs if line["event"] == "the store cannot be used"}
        assert said == {"permission"}

    with server(tmp_path) as (running, settings):
        with running.client() as client:
            client.acl_setuser(
                "u", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"], commands=["+@all", f"-{command}"]
            )
        url = f"redis://u:pw@127.0.0.1:{running.port}/0"
        asyncio.run(ask(settings.model_copy(update={"redis_url": type(settings.redis_url)(url)})))  # type: ignore[misc]


def test_a_key_of_another_program_is_the_trouble_of_one_run(tmp_path: Path) -> None:
    async def ask(running: RedisServer, settings: Settings) -> None:
        with capture_logs() as logs, running.client() as other:
            async with serving(settings) as (_, client):
                await put(client)
                await put(client, run=RUN + "-2")
                other.delete("dcao:1:{vision/resnet}:meta")
                other.set("dcao:1:{vision/resnet}:meta", "mine")
                for _ in range(3):
                    for answer in (await client.get(RUN), await client.post(RUN + "/decisions", json=seen(10))):
                        assert answer.status_code == 503, answer.text
                        assert TroubleKind.FOREIGN.fix in answer.json()["detail"]
                    assert (await client.post(RUN + "-2/decisions", json=seen(10))).status_code in (200, 409)
                assert (await client.get("/readyz")).status_code == 200
                metrics = (await client.get("/metrics")).text
        assert "dcao_store_up 1.0" in metrics
        assert re.search(r'dcao_store_errors_total{kind="foreign",op="\w+"} [1-9]', metrics)
        said = [line["said"] for line in logs if line["event"] == "a key cannot be used"]
        assert len(said) == len(set(said)) <= 3
        assert not [line for line in logs if line["event"] in ("request failed", "the store cannot be used")]

    with server(tmp_path) as (running, settings):
        asyncio.run(ask(running, settings))


def test_the_page_has_every_trouble() -> None:
    text = DOCS.read_text()
    for kind in TroubleKind:
        assert f"| `{kind.label}` | {kind.meaning} | {kind.fix} |" in text, kind


def test_a_store_that_is_well_again_is_said_to_be(tmp_path: Path) -> None:
    async def ask(running: RedisServer, settings: Settings) -> None:
        with capture_logs() as logs, running.client() as other:
            async with serving(settings) as (_, client):
                await put(client)
                other.config_set("maxmemory", "1kb")
                for _ in range(2):
                    assert (await client.get(RUN)).status_code == 200, "reading goes on"
                    assert (await client.post(RUN + "/decisions", json=seen(10))).status_code == 503
                other.config_set("maxmemory", "0")
                assert (await client.post(RUN + "/decisions", json=seen(10))).status_code == 200
                assert (await client.get("/readyz")).status_code == 200
                assert "dcao_store_up 1.0" in (await client.get("/metrics")).text
        events = [line["event"] for line in logs if line["event"].startswith("the store can")]
        assert events == ["the store cannot be used", "the store can be used again"]

    with server(tmp_path) as (running, settings):
        asyncio.run(ask(running, settings))


def test_a_run_that_a_full_memory_refuses_is_not_half_there(tmp_path: Path) -> None:
    """Either it is in every listing or it is nowhere, also where Redis refuses one write and takes another."""
    names = ["first", "second", "third"]

    async def ask(running: RedisServer, settings: Settings) -> None:
        with running.client() as other:
            async with serving(settings) as (_, client):
                await put(client)
                await client.delete(RUN)  # a tombstone is in the way of the first
                other.config_set("maxmemory", "1kb")
                for name in ("resnet", *names):
                    assert (await client.put(f"/v1/projects/vision/runs/{name}", json=SPEC)).status_code == 503
                other.config_set("maxmemory", "0")
                for name in ("resnet", *names):
                    assert (await client.get(f"/v1/projects/vision/runs/{name}")).status_code == 404
                assert (await client.get("/v1/projects/vision/runs")).json()["runs"] == []
                for name in names:
                    assert (await client.put(f"/v1/projects/vision/runs/{name}", json=SPEC)).status_code == 201
                listed = (await client.get("/v1/projects/vision/runs")).json()["runs"]
                assert sorted(run["run"] for run in listed) == names

    with server(tmp_path) as (running, settings):
        asyncio.run(ask(running, settings))


ASKED = {
    "create": ("PUT", RUN, SPEC),
    "get": ("GET", RUN, None),
    "page": ("GET", "/v1/projects/vision/runs", None),
    "projects": ("GET", "/v1/projects", None),
    "end": ("POST", RUN + ":finish", None),
    "delete": ("DELETE", RUN, None),
    "attempt": ("POST", RUN + "/attempts", {}),
    "head": ("POST", RUN + "/decisions", seen(10)),
}


def test_every_503_of_the_store_is_in_the_metric(tmp_path: Path) -> None:
    """Whichever route gave it, once."""

    async def ask(settings: Settings) -> None:
        async with serving(settings) as (_, client):
            for op, (method, path, body) in ASKED.items():
                answer = await client.request(method, path, **({} if body is None else {"json": body}))
                assert answer.status_code == 503, (op, answer.text)
                metrics = (await client.get("/metrics")).text
                counted = re.findall(rf'dcao_store_errors_total{{kind="unavailable",op="{op}"}} ([\d.]+)', metrics)
                assert [float(count) for count in counted] == [1.0], op

    with server(tmp_path) as (running, settings):
        running.kill()
        asyncio.run(ask(settings))


def test_a_pooled_connection_that_was_closed_is_no_answer(tmp_path: Path) -> None:
    """A restart, CLIENT KILL, `timeout`: the first use of every route."""

    async def ask(running: RedisServer, settings: Settings) -> None:
        async with serving(settings) as (_, client):
            await put(client)
            last = await decide(client, seen(10))
            for _ in range(2):
                with running.client() as other:
                    for one in other.client_list():
                        if one["cmd"] != "client|list":
                            with contextlib.suppress(redis.ResponseError):
                                other.client_kill(one["addr"])
                await asyncio.sleep(0.1)
                for path in (
                    RUN,
                    "/v1/projects",
                    "/v1/projects/vision/runs",
                    RUN + "/decisions",
                    "/readyz",
                    "/metrics/runs",
                ):
                    response = await client.get(path)
                    assert response.status_code == 200, (path, response.text)
                last = await decide(client, seen(last["step"] + 10, last))
                assert last["persisted"]
                await asyncio.sleep(1.1)

    with server(tmp_path) as (running, settings):
        asyncio.run(ask(running, settings))


def test_what_would_lose_history_in_silence_is_said_at_the_start(tmp_path: Path) -> None:
    async def start(settings: Settings) -> list[Any]:
        with capture_logs() as logs:
            async with serving(settings) as (_, client):
                await client.get("/readyz")
                await asyncio.sleep(0.2)
        return [line["reason"] for line in logs if line["event"] == "the store may lose history"]

    with server(tmp_path, "--appendonly", "no", "--maxmemory-policy", "allkeys-lru") as (_, settings):
        reasons = asyncio.run(start(settings))
    assert len(reasons) == 2
    assert "noeviction" in reasons[0]
    assert "appendonly yes" in reasons[1]
    assert losses({"maxmemory_policy": "noeviction", "aof_enabled": 1}) == []


async def trouble_in(logs: Any) -> list[Any]:
    """What the log says of the store, as soon as it says something."""
    for _ in range(1000):
        if said := [line for line in logs if line["event"] == "the store cannot be used"]:
            return said
        await asyncio.sleep(0.01)
    raise AssertionError("nothing was said of the store in 10 s")


@pytest.mark.parametrize("what", ["auth", "auth-unset", "unavailable", "permission-file"])
def test_a_store_in_trouble_is_in_the_log_before_the_first_request(what: str, tmp_path: Path) -> None:
    async def start(settings: Settings) -> list[Any]:
        with capture_logs() as logs:
            async with serving(settings):
                return await trouble_in(logs)

    kind = next(k for k in TroubleKind if k.label == KINDS.get(what, what))
    with SITUATIONS[what](tmp_path) as settings:
        (said,) = asyncio.run(start(settings))
    assert (said["kind"], said["fix"]) == (kind.label, kind.fix)
    assert "wrong-password" not in str(said)


def test_a_store_that_does_not_answer_delays_no_start_and_no_end(tmp_path: Path) -> None:
    async def start(settings: Settings) -> tuple[float, float]:
        began = time.monotonic()
        async with serving(settings):
            started = time.monotonic()
        return started - began, time.monotonic() - started

    with SITUATIONS["timeout"](tmp_path) as settings:
        starting, ending = asyncio.run(start(settings.model_copy(update={"redis_timeout_seconds": 60.0})))
    assert starting < 2
    assert ending < 10


def test_the_first_look_is_not_what_readiness_answers_from(tmp_path: Path) -> None:
    """A password that is corrected in the first second counts at once."""

    async def ask(running: RedisServer, settings: Settings) -> None:
        with capture_logs() as logs, running.client() as other:
            other.config_set("requirepass", "right")
            other.execute_command("AUTH", "right")
            async with serving(settings) as (_, client):
                await trouble_in(logs)
                other.config_set("requirepass", "")
                assert (await client.get("/readyz")).status_code == 200

    with server(tmp_path) as (running, settings):
        asyncio.run(asyncio.wait_for(ask(running, settings), 20))


def test_a_file_of_a_newer_controller_is_not_touched(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / SQLITE_FILE)) as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(SettingsError, match="a newer controller wrote"):
        create_app(Settings(data=tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / SQLITE_FILE)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
