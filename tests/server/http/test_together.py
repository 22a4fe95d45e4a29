"""Several workers of one run: one decision for all, no waiting, on any replica."""

import asyncio
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient

from dcao_proto import Observation, RunSpec
from dcao_proto.policy import bind
from dcao_server.app import create_app
from dcao_server.settings import Settings
from tests.components.loop_watch import watched
from tests.components.redis_server import RedisServer
from tests.server.http.asking import RUN, SPEC, decide, post, problem, put, records, seen

TOGETHER = SPEC | {"workers": 3, "aggregate": "mean", "quorum_seconds": 600.0}


async def test_a_decision_waits_for_its_quorum_and_is_the_same_for_all(client: AsyncClient) -> None:
    await put(client, TOGETHER)
    first = await decide(client, seen(10, worker="w0", rho=10.0))
    second = await decide(client, seen(10, worker="w1", rho=20.0))
    for pending in (first, second):
        assert (pending["regime"], pending["persisted"], pending["next_probe_in"]) == ("pending", False, 1)
        assert (pending["lr"], pending["momentum"], pending["weight_decay"]) == (0.1, 0.9, 5e-4)
        assert pending["version"] == 0
    assert await records(client) == []
    third = await decide(client, seen(10, worker="w2", rho=45.0, weight=2.0))
    assert (third["regime"] != "pending", third["persisted"], third["replayed"]) == (True, True, False)
    answers = [await decide(client, seen(10, worker=w)) for w in ("w0", "w1", "w2")]
    assert all(answer == third | {"replayed": True} for answer in answers)
    (record,) = await records(client)
    assert record["observation"]["rho"] == pytest.approx(30.0)
    assert record["observation"]["weight"] == 4.0
    joint = Observation.model_validate(record["observation"])
    own = bind(RunSpec.model_validate(TOGETHER)).decide(
        joint, bind(RunSpec.model_validate(TOGETHER)).state_of(first["state"]), 0
    )
    assert (third["lr"], third["state"]) == (own.lr, own.state)


async def test_values_in_force_are_those_of_the_last_decision(client: AsyncClient) -> None:
    await put(client, TOGETHER | {"workers": 2})
    await decide(client, seen(10, worker="w0", rho=40.0))
    decided = await decide(client, seen(10, worker="w1", rho=40.0))
    assert decided["multipliers"]["lr"] < 1
    pending = await decide(client, seen(20, decided, worker="w0"))
    values = ("lr", "momentum", "weight_decay", "multipliers", "state", "version")
    assert {name: pending[name] for name in values} == {name: decided[name] for name in values}


async def test_after_the_quorum_time_whoever_asks_decides(client: AsyncClient) -> None:
    await put(client, TOGETHER | {"quorum_seconds": 0.05})
    assert (await decide(client, seen(10, worker="w0")))["regime"] == "pending"
    await asyncio.sleep(0.1)
    assert (await decide(client, seen(10, worker="w0")))["persisted"] is True


@pytest.mark.parametrize(("workers", "groups"), [(3000, 0), (300, 100)])
async def test_many_workers_keep_nobody_waiting(client: AsyncClient, workers: int, groups: int) -> None:
    """Reading and merging what thousands measured gives way to the others."""
    await put(client, TOGETHER | {"workers": workers, "aggregate": "trimmed_mean"})
    measured = [{"name": f"g{i}", "slope": i / 7, "curvature": 1.0} for i in range(groups)]
    with watched() as held:
        for index in range(workers):
            more = {"groups": measured} if groups else {}
            last = await decide(client, seen(10, worker=f"w{index}", weight=1.0 + index % 3, **more))
    assert last["persisted"] is True
    assert held.seconds < 0.05, held.what
    (record,) = await records(client)
    assert len(record["observation"].get("groups") or ()) == groups


async def test_an_observation_of_one_of_very_many_workers_is_a_small_one(client: AsyncClient) -> None:
    """All of a step's come in one answer of the store."""
    await put(client, TOGETHER | {"workers": 10_000})
    groups = [{"name": f"group-{i}", "slope": 0.123456789, "curvature": 1.0} for i in range(256)]
    document = problem(await post(client, seen(10, worker="w0", groups=groups)), 413, "too-large")
    assert "of 10000 workers" in document["detail"]


async def test_a_quorum_may_be_smaller_than_the_workers(client: AsyncClient) -> None:
    await put(client, TOGETHER | {"quorum": 2})
    assert (await decide(client, seen(10, worker="w0")))["regime"] == "pending"
    decided = await decide(client, seen(10, worker="w1"))
    straggler = await decide(client, seen(10, worker="w2"))
    assert decided["persisted"] is True
    assert straggler == decided | {"replayed": True}


async def test_a_worker_says_who_it_is(client: AsyncClient) -> None:
    await put(client, TOGETHER)
    assert "worker" in problem(await post(client, seen(10)), 422, "invalid")["detail"]


async def test_a_lost_run_is_restored_by_its_workers(client: AsyncClient) -> None:
    await put(client, TOGETHER | {"workers": 2})
    await decide(client, seen(10, worker="w0"))
    last = await decide(client, seen(10, worker="w1"))
    assert (await decide(client, seen(20, last, worker="w0"), RUN + "-lost"))["regime"] == "pending"
    response = await post(client, seen(20, last, worker="w1"), RUN + "-lost")
    assert response.json()["version"] == 2


async def test_workers_may_ask_different_replicas(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = Settings(data=tmp_path, redis_url=redis_server.url, redis_timeout_seconds=10.0)
    with redis_server.client() as plain:
        plain.flushall()
    replicas = [create_app(settings), create_app(settings)]
    async with (
        replicas[0].router.lifespan_context(replicas[0]),
        replicas[1].router.lifespan_context(replicas[1]),
        AsyncClient(transport=ASGITransport(replicas[0]), base_url="http://localhost") as one,
        AsyncClient(transport=ASGITransport(replicas[1]), base_url="http://localhost") as two,
    ):
        await put(one, TOGETHER | {"workers": 4})
        asked = [(one, "w0"), (two, "w1"), (one, "w2"), (two, "w3")]
        for step in range(10, 60, 10):
            answers = await asyncio.gather(*(decide(client, seen(step, worker=name)) for client, name in asked))
            assert sum(answer["persisted"] for answer in answers) >= 1
            settled = [await decide(client, seen(step, worker=name)) for client, name in asked]
            assert all(answer == settled[0] for answer in settled)
        assert [record["step"] for record in await records(one)] == [10, 20, 30, 40, 50]
