"""Decisions over HTTP: first one wins, stateless, healed, together with the policy bit for bit."""

import asyncio

from fastapi import FastAPI
from httpx import AsyncClient

from dcao_proto import Observation, RunSpec
from dcao_proto.policy import bind
from tests.server.http.asking import RUN, SPEC, decide, post, problem, put, records, seen, train


async def test_decisions_are_those_of_the_policy_bit_for_bit(client: AsyncClient) -> None:
    await put(client)
    policy = bind(RunSpec.model_validate(SPEC))
    after = None
    for step in range(0, 2000, 100):
        observation = seen(step, after, loss=1 / (step + 1), base={"lr": 0.1 / (step + 1)})
        after = await decide(client, observation)
        own = policy.decide_from_token(Observation.model_validate(observation))
        assert after == own.model_copy(update={"persisted": True}).wire()


async def test_a_worker_that_echoes_nothing_gets_the_same_decisions(client: AsyncClient) -> None:
    await put(client)
    await put(client, run=RUN + "2")
    echoing = await train(client, 0, 10, 20, 30)
    silent = [await decide(client, seen(step), RUN + "2") for step in (0, 10, 20, 30)]
    assert silent == echoing


async def test_a_retry_gets_the_stored_decision_and_the_newest_state(client: AsyncClient) -> None:
    await put(client)
    first, second = await train(client, 0, 100)
    again = await decide(client, seen(0, rho=999.0))
    assert again == first | {"replayed": True, "state": second["state"], "version": 2}
    assert len(await records(client)) == 2


async def test_a_token_that_is_behind_is_decided_anew_from_the_stored_state(client: AsyncClient) -> None:
    await put(client)
    decisions = await train(client, 0, 100, 200)
    late = await decide(client, seen(300, decisions[0]))
    own = bind(RunSpec.model_validate(SPEC)).decide_from_token(Observation.model_validate(seen(300, decisions[2])))
    assert late == own.model_copy(update={"persisted": True}).wire()


async def test_an_older_step_that_was_never_decided_is_stale(client: AsyncClient) -> None:
    await put(client)
    last = (await train(client, 0, 100))[-1]
    assert "POST attempts" in problem(await post(client, seen(50, last)), 409, "stale-step")["detail"]
    assert [r["step"] for r in await records(client)] == [0, 100]


async def test_the_header_of_a_healed_decision_names_the_newest_step_that_was_left(client: AsyncClient) -> None:
    await put(client)
    first = await decide(client, seen(0))
    policy = bind(RunSpec.model_validate(SPEC))
    offline = first
    for step in (10, 20):  # decided by the client alone
        offline = policy.decide_from_token(Observation.model_validate(seen(step, offline))).wire()
    response = await post(client, seen(30, offline))
    assert response.status_code == 200
    assert response.headers["DCAO-Healed-After"] == "0"
    assert response.json()["version"] == 4
    assert "DCAO-Healed-After" not in (await post(client, seen(40, response.json()))).headers


async def test_a_run_that_the_store_lost_is_restored_from_the_token(app: FastAPI, client: AsyncClient) -> None:
    await put(client)
    last = (await train(client, 0, 100))[-1]
    other = RUN + "-of-another-store"
    response = await client.post(other + "/decisions", json=seen(200, last))
    assert response.status_code == 200
    assert response.headers["DCAO-Healed-After"] == "-1"
    run = (await client.get(other)).json()
    assert (run["version"], run["decisions"], run["last_step"]) == (3, 1, 200)
    assert run["spec"] == (await client.get(RUN)).json()["spec"]


async def test_a_token_of_another_run_is_refused(client: AsyncClient) -> None:
    await put(client)
    await put(client, SPEC | {"probe_interval": 5}, RUN + "2")
    last = (await train(client, 0))[-1]
    problem(await post(client, seen(10, last), RUN + "2"), 422, "invalid-state")
    assert await records(client, RUN + "2") == []


async def test_many_workers_at_once_get_one_decision_for_each_step(client: AsyncClient) -> None:
    await put(client, SPEC | {"workers": 8})

    async def work(worker: int) -> list[dict[str, object]]:
        after = None
        answers = []
        for step in range(0, 200, 10):
            after = await decide(client, seen(step, after, worker=f"rank{worker}", rho=10.0 + worker))
            answers.append({name: after[name] for name in ("step", "lr", "momentum", "weight_decay", "reasons")})
        return answers

    everyone = await asyncio.gather(*(work(n) for n in range(8)))
    assert all(answers == everyone[0] for answers in everyone)
    assert [r["step"] for r in await records(client)] == list(range(0, 200, 10))


async def test_divergence_is_a_value(client: AsyncClient) -> None:
    await put(client)
    first = await decide(client, seen(0))
    diverged = await decide(
        client, {"step": 10, "status": "diverged", "state": first["state"], "version": first["version"]}
    )
    assert (diverged["regime"], diverged["action"]) == ("diverged", "rollback")
    assert diverged["lr"] < first["lr"]


async def test_deciding_without_a_run_stores_nothing(client: AsyncClient) -> None:
    body = {"spec": SPEC, "observation": seen(0)}
    first = (await client.post("/v1/decide", json=body)).json()
    second = (await client.post("/v1/decide", json={"spec": SPEC, "observation": seen(10, first)})).json()
    assert (first["persisted"], second["version"]) == (False, 2)
    assert (await client.get("/v1/projects/vision/runs")).json()["runs"] == []
    wrong = {"spec": SPEC | {"probe_interval": 3}, "observation": seen(10, first)}
    problem(await client.post("/v1/decide", json=wrong), 422, "invalid-state")
