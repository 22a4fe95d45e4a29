"""The store in every Redis that people run: Cluster, Sentinel with a failover, TLS, an ACL user, a Unix socket."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
import redis

from dcao_experiments.controller_process import free_port
from dcao_proto import Observation, RunSpec
from dcao_proto.policy import bind
from dcao_server.decisions.service import DecisionService
from dcao_server.metrics import Metrics
from dcao_server.runs.identity import digest_of
from dcao_server.settings import Settings
from dcao_server.store import create_store
from dcao_server.store.contract import (
    START,
    Creation,
    HistoryStore,
    Outcome,
    Restart,
    RunKey,
    StoreUnavailableError,
)
from tests.components.redis_server import RedisServer
from tests.server.store.opening import KEY, backfill, creation, item, redis_store
from tests.server.store.topologies import Watched, certificates, cluster

T = TypeVar("T")


async def exercise(store: HistoryStore, runs: int = 12) -> None:
    """Every call of the contract, on runs that a cluster keeps on all of its nodes."""
    await store.open()
    await store.ping()
    for index in range(runs):
        key = RunKey("p", f"run{index}")
        made = await store.create(key, creation(now=1000.0 + index))
        assert made is not None
        assert (await store.append(key, item(10, 0))).outcome is Outcome.APPENDED
        assert (await store.append(key, item(30, 2))).outcome is Outcome.HEALED
        assert (await store.append(key, item(10, 0))).outcome is Outcome.REPLAYED
        assert (await store.backfill(key, backfill(20, version=2))).stored == 1
        assert [r.step for r in await store.read(key, START, 10)] == [10, 20, 30]
        assert (await store.begin_attempt(key, Restart(None, None, None, None, "", 1.0))).attempt == 2
        assert (await store.append(key, item(1, 3, attempt=2))).outcome is Outcome.APPENDED
        store.tally(key, ["decided"])
    assert [run.key.run for run in await store.page("p", None, 100)] == [f"run{i}" for i in reversed(range(runs))]
    live = [found async for found in store.live(0.0, 100)]
    assert {run.key.run: dict(run.counts) for run, _ in live} == {f"run{i}": {"decided": 1} for i in range(runs)}
    follower = store.follow(RunKey("p", "run0"), START)
    seen = [(await asyncio.wait_for(anext(follower), 5)).step for _ in range(4)]
    assert seen == [10, 20, 30, 1]
    upcoming = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0.1)
    await store.append(RunKey("p", "run0"), item(2, 4, attempt=2))
    assert (await asyncio.wait_for(upcoming, 5)).step == 2
    assert await store.end(RunKey("p", "run1"), "finished", None, 9.0) is not None
    assert await store.delete(RunKey("p", "run2"), 9.0) is True
    await store.close()


async def test_a_cluster_of_three_masters(tmp_path: Path) -> None:
    with cluster(tmp_path) as nodes:
        await exercise(redis_store(f"redis+cluster://127.0.0.1:{nodes[1].port}"))
        held = []
        for node in nodes:
            with node.client() as client:
                held.append(len(client.keys("dcao:1:{p/*")))
        assert all(held), held  # every master took a share


async def test_racing_writers_in_a_cluster_decide_each_step_once(tmp_path: Path) -> None:
    with cluster(tmp_path) as nodes:
        stores = [redis_store(f"redis+cluster://127.0.0.1:{node.port}") for node in nodes]
        await asyncio.gather(*(store.open() for store in stores))
        await stores[0].create(KEY, creation())
        outcomes: list[Outcome] = []

        async def write(writer: int) -> None:
            store, version = stores[writer % 3], 0
            for step in range(50):
                result = await store.append(KEY, item(step, version, payload=b"%d" % writer))
                while result.outcome is Outcome.CONFLICT:
                    result = await store.append(KEY, item(step, result.version, payload=b"%d" % writer))
                version = result.version
                outcomes.append(result.outcome)

        await asyncio.gather(*(write(n) for n in range(8)))
        assert (outcomes.count(Outcome.APPENDED), outcomes.count(Outcome.REPLAYED)) == (50, 350)
        assert [r.step for r in await stores[2].read(KEY, START, 100)] == list(range(50))
        await asyncio.gather(*(store.close() for store in stores))


async def answered(read: Callable[[], Awaitable[T]], seconds: float = 10.0) -> T:
    """What a read gives once redis-py has found the new master too: its connections are others than the decisions'."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await read()
        except StoreUnavailableError:
            if time.monotonic() > end:
                raise
        await asyncio.sleep(0.1)


async def test_a_failover_by_sentinels_is_followed_and_healed(tmp_path: Path) -> None:
    """The master is killed under a worker: it is answered throughout, and history goes on at the new master."""
    watched = Watched(tmp_path)
    try:
        store = create_store(Settings(redis_url=watched.url))
        await store.open()
        policy = bind(RunSpec.model_validate({"optimizer": "sgd", "base": {"lr": 0.1}, "policy": {"name": "paper"}}))
        service = DecisionService(store, Metrics(process=False))
        await store.create(
            KEY, Creation(policy.spec_segment, digest_of(policy.spec_segment), policy.initial_token(), 1.0)
        )
        decision = (
            await service.decide(KEY, Observation(step=0, rho=1.0, gamma=0.5, state=policy.initial_token(), version=0))
        ).decision
        persisted = [decision.persisted]
        watched.master.kill()
        end = time.monotonic() + 40
        step = 0
        while time.monotonic() < end and not (step > 3 and persisted[-1]):
            step += 1
            observation = Observation(
                step=step, rho=1.0 + step, gamma=0.5, state=decision.state, version=decision.version
            )
            decision = (await service.decide(KEY, observation)).decision
            persisted.append(decision.persisted)
            await asyncio.sleep(0.1)
        assert not all(persisted)  # the outage was felt
        assert persisted[-1]  # and is over
        stored = await answered(lambda: store.read(KEY, START, 1000))
        assert [record.step for record in stored][-1] == step
        run = await answered(lambda: store.get(KEY))
        assert run is not None
        assert run.version == decision.version
        await store.close()
    finally:
        watched.close()


async def test_tls_with_a_certificate_authority_of_ones_own(tmp_path: Path) -> None:
    ca, cert, key = certificates(tmp_path / "tls")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key))
    server = RedisServer(tmp_path / "redis", *options, "--tls-ca-cert-file", str(ca), "--tls-auth-clients", "yes")
    try:
        url = f"rediss://127.0.0.1:{port}"
        await exercise(redis_store(url, redis_ca_file=ca, redis_cert_file=cert, redis_key_file=key), runs=3)
        stranger = redis_store(url, redis_cert_file=cert, redis_key_file=key)  # does not know the authority
        await stranger.open()
        with pytest.raises(StoreUnavailableError):
            await stranger.ping()
        with pytest.raises(StoreUnavailableError):
            await stranger.append(KEY, item(1, 0))
        await stranger.close()
    finally:
        server.kill()


ACL = ["on", ">secret", "~dcao:1:*", "-@all", "+@read", "+@write", "+@scripting", "+@connection", "-@dangerous"]


async def test_an_acl_user_that_may_touch_our_keys_only(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    try:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "dcao", *ACL)
        with (
            redis.Redis(port=server.port, username="dcao", password="secret") as user,
            pytest.raises(redis.exceptions.NoPermissionError),
        ):
            user.get("somebody:elses")
        await exercise(redis_store(f"redis://dcao:secret@127.0.0.1:{server.port}"), runs=3)
        apart = redis_store(f"redis://127.0.0.1:{server.port}", redis_username="dcao", redis_password="secret")
        await exercise_again(apart)
        wrong = redis_store(f"redis://dcao:wrong@127.0.0.1:{server.port}")
        await wrong.open()
        for call in (wrong.ping(), wrong.append(KEY, item(1, 0))):
            with pytest.raises(StoreUnavailableError):
                await call
        await wrong.close()
    finally:
        server.kill()


async def exercise_again(store: HistoryStore) -> None:
    """Credentials that came apart from the URL work too."""
    await store.open()
    await store.ping()
    assert (await store.append(RunKey("p", "run0"), item(3, 5, attempt=2))).outcome is Outcome.APPENDED
    await store.close()


async def test_a_unix_socket(tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    server = RedisServer(tmp_path / "redis", "--unixsocket", str(socket))
    try:
        await exercise(redis_store(f"unix://{socket}"), runs=3)
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://localhost", "redis+sentinel"),
        ("redis+sentinel://localhost:1", "SERVICE"),
        ("redis://localhost/one", "number of a database"),
    ],
)
def test_a_url_that_is_none_is_refused_with_what_was_expected(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("+", r"\+")):
        create_store(Settings(redis_url=url))


async def test_scripts_that_redis_forgot_are_sent_again(redis_server: RedisServer) -> None:
    store = redis_store(redis_server.url)
    await store.open()
    with redis_server.client() as client:
        client.flushall()
        await store.create(KEY, creation())
        assert (await store.append(KEY, item(1, 0))).outcome is Outcome.APPENDED
        client.script_flush()
        assert (await store.append(KEY, item(2, 1))).outcome is Outcome.APPENDED
    await store.close()


async def test_a_redis_that_does_not_answer_costs_its_timeout_and_no_more(mortal_redis: RedisServer) -> None:
    """A stopped process holds its connections open and says nothing."""
    store = create_store(Settings(redis_url=mortal_redis.url))
    await store.open()
    await store.create(KEY, creation())
    await store.append(KEY, item(1, 0))
    assert mortal_redis.process is not None
    os.kill(mortal_redis.process.pid, signal.SIGSTOP)
    started = time.monotonic()
    results = await asyncio.gather(*(store.append(KEY, item(n, 1)) for n in range(2, 30)), return_exceptions=True)
    assert time.monotonic() - started < 1.0
    assert all(isinstance(result, StoreUnavailableError) for result in results)
    os.kill(mortal_redis.process.pid, signal.SIGCONT)
    await asyncio.sleep(0.1)
    assert (await store.append(KEY, item(40, 5))).outcome in {Outcome.HEALED, Outcome.STALE, Outcome.CONFLICT}
    assert len({r.step for r in await store.read(KEY, START, 100)}) == len(await store.read(KEY, START, 100))
    await store.close()
