"""A history in few records, on every store."""

from typing import Any

from fastapi import FastAPI
from httpx import AsyncClient

from dcao_proto import Observation, RunSpec
from dcao_proto.policy import PolicyState
from dcao_server.history.codec import decode, encode, outlined
from dcao_server.history.outline import Part
from dcao_server.runs.identity import bound
from dcao_server.runs.readable import readable_spec
from dcao_server.store.contract import Backfill, RunKey, StoredRecord
from tests.server.http.asking import RUN, problem, put, records, train

KEY = RunKey("vision", "resnet")


async def outline(client: AsyncClient, query: str = "") -> dict[str, Any]:
    """The whole answer, asked for until it is complete."""
    while True:
        response = await client.get(f"{RUN}/outline?{query}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        if found["complete"]:
            return found


def steps(found: dict[str, Any]) -> list[int]:
    return [record["step"] for record in found["records"]]


async def fill(app: FastAPI, count: int, spike: int) -> None:
    """A long history, put into the store as a backfill is; at `spike` the loss is 1000."""
    store = app.state.context.store
    run = await store.get(KEY)
    decision = bound(readable_spec(run.spec)).decide(
        Observation(step=0, rho=1.0, gamma=0.5, loss=1.0), PolicyState(), 0
    )
    usual, high = (
        encode(Observation(step=0, rho=1.0, gamma=0.5, loss=loss), decision, 1000.0) for loss in (1.0, 1000.0)
    )
    for begin in range(0, count, 1000):
        entries = tuple((step, high if step == spike else usual) for step in range(begin, min(begin + 1000, count)))
        await store.backfill(KEY, Backfill(1, run.digest, entries, entries[-1][0] + 1, run.state, 2000.0))


async def test_a_short_history_is_whole_and_the_same_as_in_pages(client: AsyncClient) -> None:
    await put(client)
    assert await outline(client) == {"records": [], "total": 0, "complete": True}
    await train(client, *range(0, 500, 50))
    found = await outline(client)
    assert found["records"] == await records(client)
    assert (found["total"], found["cursor"]) == (10, "1:450")


async def test_a_long_one_keeps_its_ends_and_its_spike(client: AsyncClient, app: FastAPI) -> None:
    await put(client)
    await fill(app, 5000, spike=3217)
    found = await outline(client, "points=200")
    assert found["total"] == 5000
    assert len(found["records"]) <= 200
    assert {0, 3217, 4999} <= set(steps(found))
    assert found["cursor"] == "1:4999"
    near = await outline(client, "points=200&first=3200&last=3250")
    assert steps(near) == list(range(3200, 3251))
    assert (await outline(client, "points=64&first=1000&last=3999"))["total"] == 3000


async def test_what_comes_afterwards_is_added_and_what_is_put_below_is_seen(client: AsyncClient) -> None:
    await put(client)
    decisions = await train(client, 0, 100)
    assert steps(await outline(client)) == [0, 100]
    await train(client, 200, 300, after=decisions[-1])
    assert steps(await outline(client)) == [0, 100, 200, 300]
    history = await records(client)
    below = {
        "observation": {**history[1]["observation"], "step": 150},
        "decision": {**history[1]["decision"], "step": 150},
    }
    response = await client.post(f"{RUN}/decisions:backfill", json={"entries": [below]})
    assert response.json()["stored"] == 1, response.text
    assert steps(await outline(client)) == [0, 100, 150, 200, 300]


async def test_every_attempt_is_in_it_and_in_a_part_of_it(client: AsyncClient) -> None:
    await put(client)
    decisions = await train(client, 0, 100, 200, 300)
    begun = await client.post(f"{RUN}/attempts", json={"step": 100, "state": decisions[1]["state"], "version": 2})
    attempt = begun.json()
    await train(client, 150, 250, after={"attempt": 2, "state": attempt["state"], "version": attempt["version"]})
    assert steps(await outline(client)) == [0, 100, 200, 300, 150, 250]
    assert steps(await outline(client, "first=140&last=260")) == [200, 150, 250]
    assert steps(await outline(client, "last=100")) == [0, 100]


async def test_another_run_of_the_same_name_is_another_history(client: AsyncClient) -> None:
    await put(client)
    await train(client, 0, 100, 200)
    assert (await outline(client))["total"] == 3
    await client.delete(RUN)
    await put(client)
    await train(client, 0, 50)
    assert steps(await outline(client)) == [0, 50]


async def test_a_record_that_cannot_be_read_hides_no_other(client: AsyncClient, app: FastAPI) -> None:
    await put(client)
    await train(client, 0, 100)
    run = await app.state.context.store.get(KEY)
    garbage = Backfill(1, run.digest, ((50, b"\xff\x00garbage"), (60, b"")), run.version, run.state, 2000.0)
    await app.state.context.store.backfill(KEY, garbage)
    assert steps(await outline(client)) == [0, 100]


async def test_outlines_in_memory_are_bounded(client: AsyncClient, app: FastAPI) -> None:
    await put(client)
    for points in range(16, 100):
        await outline(client, f"points={points}")
    kept = app.state.context.outlines._kept
    assert len(kept) <= 48
    assert Part(KEY, 99, None, None) in kept


async def test_what_does_not_fit_is_refused(client: AsyncClient) -> None:
    await put(client)
    for query in ("points=1", "points=5000", "first=-1", "last=x"):
        problem(await client.get(f"{RUN}/outline?{query}"), 422, "invalid")
    problem(await client.get("/v1/projects/vision/runs/nothing/outline"), 404, "run-not-found")


def test_the_numbers_that_choose_are_those_of_the_record() -> None:
    spec = RunSpec.model_validate({"optimizer": "sgd", "base": {"lr": 0.1, "momentum": 0.9}})
    observation = Observation(step=0, rho=7.5, gamma=0.5, loss=2.25)
    decision = bound(spec).decide(observation, PolicyState(), 0)
    payload = encode(observation, decision, 1000.0)
    record = decode(StoredRecord(1, 0, payload))
    assert outlined(payload) == (record.decision.edge_ratio, 7.5, 2.25)


async def test_what_a_user_logged_is_in_the_outline_however_long_the_history(client: AsyncClient, app: FastAPI) -> None:
    await put(client)
    await fill(app, 3000, spike=1500)
    run = await app.state.context.store.get(KEY)
    decision = bound(readable_spec(run.spec)).decide(Observation(step=0, rho=1.0, gamma=0.5), PolicyState(), 0)
    seen = Observation(step=0, rho=1.0, gamma=0.5, loss=1.0, metrics={"val/accuracy": 0.5})
    entries = tuple((step, encode(seen, decision, 1000.0)) for step in (3000, 3001, 3002))
    last = tuple((step, encode(seen.model_copy(update={"metrics": None}), decision, 1000.0)) for step in (3003, 3004))
    await app.state.context.store.backfill(KEY, Backfill(1, run.digest, entries + last, 3005, run.state, 2000.0))
    found = await outline(client, "points=64")
    assert {3000, 3001, 3002} <= {r["step"] for r in found["records"] if "metrics" in r["observation"]}
    assert steps(found) == sorted(steps(found))
    assert len(found["records"]) <= 80
