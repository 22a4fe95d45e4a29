"""Runs over HTTP: created, listed, restarted, ended, deleted."""

import pytest
from httpx import AsyncClient

from dcao_proto.message import MAX_ATTEMPT
from tests.server.http.asking import RUN, SPEC, decide, post, problem, put, records, seen, train


async def test_the_same_body_gives_the_same_run_and_another_is_a_conflict(client: AsyncClient) -> None:
    first = await client.put(RUN, json=SPEC)
    again = await client.put(RUN, json=SPEC | {"labels": {}, "workers": 1})  # defaults spelled out
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["spec"]["probe_interval"] == 100
    problem(await client.put(RUN, json=SPEC | {"probe_interval": 7}), 409, "run-conflict")


@pytest.mark.parametrize(
    "change",
    [
        {"policy": {"name": "no-such-policy"}},
        {"policy": {"name": "paper", "params": {"alpha": "steep"}}},
        {"workers": 2, "quorum": 3},
        {"optimizer": "sgdd"},
        {"unknown": 1},
    ],
)
async def test_a_specification_that_cannot_be_is_refused(client: AsyncClient, change: dict[str, object]) -> None:
    problem(await client.put(RUN, json=SPEC | change), 422, "invalid")
    problem(await client.get(RUN), 404, "run-not-found")


async def test_a_run_goes_from_created_to_active_to_finished(client: AsyncClient) -> None:
    await put(client)
    assert (await client.get(RUN)).json()["status"] == "created"
    last = (await train(client, 0, 100, 200))[-1]
    run = (await client.get(RUN)).json()
    assert (run["status"], run["last_step"], run["decisions"], run["version"]) == ("active", 200, 3, 3)
    assert (await client.post(RUN + ":finish")).json()["status"] == "finished"
    assert (await client.post(RUN + ":finish", json={})).status_code == 200
    problem(await client.post(RUN + ":fail", json={"reason": "late"}), 409, "run-ended")
    problem(await post(client, seen(300, last)), 409, "run-ended")
    assert (await decide(client, seen(200, last)))["replayed"] is True


async def test_a_failed_run_says_why(client: AsyncClient) -> None:
    await put(client)
    failed = (await client.post(RUN + ":fail", json={"reason": "node lost"})).json()
    assert (failed["status"], failed["reason"]) == ("failed", "node lost")


async def test_a_restart_from_a_checkpoint_goes_on_exactly_and_fences_the_old_attempt(client: AsyncClient) -> None:
    await put(client)
    decisions = await train(client, 0, 100, 200, 300)
    checkpoint = decisions[1]
    begun = await client.post(
        RUN + "/attempts", json={"step": 100, "state": checkpoint["state"], "version": checkpoint["version"]}
    )
    attempt = begun.json()
    assert (begun.status_code, attempt["attempt"], attempt["version"]) == (200, 2, 2)
    assert attempt["state"] == checkpoint["state"]
    problem(await post(client, seen(400, decisions[-1])), 409, "fenced")
    again = await decide(client, seen(200, attempt))
    values = ("lr", "momentum", "weight_decay", "multipliers", "state", "version")
    assert {name: again[name] for name in values} == {name: decisions[2][name] for name in values}
    assert [(r["attempt"], r["step"]) for r in await records(client)] == [
        (1, 0),
        (1, 100),
        (1, 200),
        (1, 300),
        (2, 200),
    ]


async def test_a_run_has_so_many_attempts_and_no_more(client: AsyncClient) -> None:
    """Each is named in the run's record. The last one trains on; the next is refused and told where to go on."""
    await put(client)
    problem(await client.post(RUN + "/attempts", json={"attempt": MAX_ATTEMPT + 1}), 422, "invalid")
    begun = await client.post(RUN + "/attempts", json={"attempt": MAX_ATTEMPT})
    assert (begun.status_code, begun.json()["attempt"]) == (200, MAX_ATTEMPT)
    said = problem(await client.post(RUN + "/attempts", json={}), 409, "run-ended")
    assert "another name" in said["detail"]
    last = (await train(client, 0, 100, after=begun.json()))[-1]
    assert (last["persisted"], last["attempt"]) == (True, MAX_ATTEMPT)
    problem(await post(client, seen(200, last | {"attempt": MAX_ATTEMPT + 1})), 422, "invalid")
    assert (await client.get(RUN)).json()["attempt"] == MAX_ATTEMPT


async def test_projects_are_paged(client: AsyncClient) -> None:
    """In order of name, and gone with their last run."""
    names = sorted(f"p{index}" for index in range(23))
    for name in names:
        await put(client, run=f"/v1/projects/{name}/runs/r")
    found: list[str] = []
    query: dict[str, str] = {"limit": "10"}
    sizes = []
    while True:
        page = (await client.get("/v1/projects", params=query)).json()
        found += page["projects"]
        sizes.append(len(page["projects"]))
        if "next_cursor" not in page:
            break
        query["cursor"] = page["next_cursor"]
    assert found == names
    assert sizes == [10, 10, 3]
    assert (await client.get("/v1/projects")).json() == {"projects": names}
    await client.delete("/v1/projects/p7/runs/r")
    assert "p7" not in (await client.get("/v1/projects")).json()["projects"]
    for wrong in (
        {"limit": "0"},
        {"limit": "1001"},
        {"cursor": "a b"},
        {"cursor": "é"},
    ):
        problem(await client.get("/v1/projects", params=wrong), 422, "invalid")


async def test_half_a_token_is_refused(client: AsyncClient) -> None:
    await put(client)
    last = (await train(client, 0))[-1]
    problem(await client.post(RUN + "/attempts", json={"state": last["state"]}), 422, "invalid")
    problem(await client.post(RUN + "/attempts", json={"state": "dcao1.x.y.z", "version": 1}), 422, "invalid-state")


async def test_runs_are_paged_and_filtered(client: AsyncClient) -> None:
    for index in range(7):
        labels = {"model": "resnet18" if index % 2 else "vit", "index": str(index)}
        await put(client, SPEC | {"labels": labels}, f"/v1/projects/vision/runs/r{index}")
    await client.post("/v1/projects/vision/runs/r3:finish")
    await put(client, run="/v1/projects/speech/runs/other")
    names: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/projects/vision/runs", params=query)).json()
        names += [run["run"] for run in page["runs"]]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert names == [f"r{index}" for index in reversed(range(7))]

    async def found(**query: object) -> list[str]:
        response = await client.get("/v1/projects/vision/runs", params=query)  # type: ignore[arg-type]
        assert response.status_code == 200, response.text
        return [run["run"] for run in response.json()["runs"]]

    assert await found(label="model=resnet18") == ["r5", "r3", "r1"]
    assert await found(label=["model=resnet18", "index=3"]) == ["r3"]
    assert await found(label="model=resnet18", limit=2) == ["r5", "r3"]
    assert await found(status="finished") == ["r3"]
    assert await found(status="created", label="model=resnet18") == ["r5", "r1"]


@pytest.mark.parametrize(
    "query", [{"cursor": "!"}, {"cursor": "W10"}, {"label": "model"}, {"limit": "0"}, {"status": "x"}]
)
async def test_listings_refuse_what_they_do_not_understand(client: AsyncClient, query: dict[str, str]) -> None:
    problem(await client.get("/v1/projects/vision/runs", params=query), 422, "invalid")


async def test_a_deleted_run_is_not_brought_back_by_a_worker_that_goes_on(client: AsyncClient) -> None:
    await put(client)
    last = (await train(client, 0, 100))[-1]
    assert (await client.delete(RUN)).status_code == 204
    problem(await client.delete(RUN), 404, "run-not-found")
    problem(await post(client, seen(200, last)), 404, "run-not-found")
    problem(await client.get(RUN + "/decisions"), 404, "run-not-found")


async def test_policies_are_listed_with_their_schema(client: AsyncClient) -> None:
    listed = {policy["name"]: policy for policy in (await client.get("/v1/policies")).json()["policies"]}
    assert {"paper", "default", "constant", "edge", "linear", "power"} <= listed.keys()
    assert "alpha" in listed["paper"]["params_schema"]["properties"]
