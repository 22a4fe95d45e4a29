"""Redis is killed: whoever echoes a state is answered all the same, the others hear when to come back."""

import asyncio
import time
from pathlib import Path

from httpx import ASGITransport, AsyncClient

from dcao_proto import Observation, RunSpec
from dcao_proto.policy import bind
from dcao_server.app import create_app
from dcao_server.decisions.availability import FAILURES, PAUSE_SECONDS, Availability
from dcao_server.settings import Settings
from dcao_server.store.contract import RunKey
from tests.components.redis_server import RedisServer
from tests.server.http.asking import RUN, SPEC, decide, post, problem, put, records, seen, train


async def test_decisions_go_on_without_redis_and_the_history_is_complete_in_the_end(
    tmp_path: Path, mortal_redis: RedisServer
) -> None:
    app = create_app(Settings(data=tmp_path, redis_url=mortal_redis.url))
    policy = bind(RunSpec.model_validate(SPEC))
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as client,
    ):
        await put(client)
        last = (await train(client, 0, 10))[-1]
        mortal_redis.kill()
        journal = []
        for step in (20, 30, 40, 50, 60):
            observation = seen(step, last)
            last = await decide(client, observation)
            own = policy.decide_from_token(Observation.model_validate(observation))
            assert last == own.wire()
            assert last["persisted"] is False
            journal.append({"observation": observation, "decision": last})
        refused = await post(client, seen(70))
        problem(refused, 503, "store-unavailable")
        assert refused.headers["Retry-After"] == "1"
        problem(await client.get(RUN), 503, "store-unavailable")
        problem(await client.get("/readyz"), 503, "not-ready")
        assert (await client.get("/healthz")).status_code == 200

        mortal_redis.start()
        end = time.monotonic() + 10
        while not (answer := await post(client, seen(70, last))).json()["persisted"]:
            assert time.monotonic() < end
        assert answer.headers["DCAO-Healed-After"] == "10"
        result = (await client.post(RUN + "/decisions:backfill", json={"entries": journal})).json()
        assert (result["stored"], result["deviating"]) == (5, [])
        assert [record["step"] for record in await records(client)] == [0, 10, 20, 30, 40, 50, 60, 70]


async def test_a_controller_starts_without_redis(tmp_path: Path, mortal_redis: RedisServer) -> None:
    mortal_redis.kill()
    app = create_app(Settings(data=tmp_path, redis_url=mortal_redis.url))
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as client,
    ):
        problem(await client.put(RUN, json=SPEC), 503, "store-unavailable")
        mortal_redis.start()
        await put(client)
        assert (await train(client, 0))[-1]["persisted"] is True


def test_a_store_that_fails_again_and_again_is_asked_once_in_a_while() -> None:
    now = 100.0
    availability = Availability(lambda: now)
    for _ in range(FAILURES):
        assert availability.worth_trying()
        availability.failed()
    assert not availability.worth_trying()
    now += PAUSE_SECONDS
    assert availability.worth_trying()
    assert not availability.worth_trying()
    availability.succeeded()
    assert availability.worth_trying()
    assert availability.worth_trying()


async def test_a_download_survives_a_restart_of_redis(tmp_path: Path, mortal_redis: RedisServer) -> None:
    app = create_app(Settings(data=tmp_path, redis_url=mortal_redis.url))
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as client,
    ):
        await put(client)
        await train(client, *range(200))
        await asyncio.sleep(1.1)  # the append-only file is on the disk
        batches = app.state.context.history.batches(RunKey("vision", "resnet"))
        found = list(await anext(batches))
        mortal_redis.kill()
        reading = asyncio.create_task(anext(batches))
        await asyncio.sleep(0.05)
        mortal_redis.start()
        found += await reading
        found += [record async for batch in batches for record in batch]
        assert [record.step for record in found] == list(range(200))
