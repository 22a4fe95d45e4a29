"""Title, note and tags of a run, on every store."""

from fastapi import FastAPI
from httpx import AsyncClient

from dcao_server.store.contract import RunKey
from tests.server.http.asking import RUN, problem, put, train

ABOUT = {"title": "The good one", "note": "Warm-up was too short.\nSee <b>run 7</b>.", "tags": ["baseline", "v2"]}


async def test_it_is_written_read_found_and_taken_away(client: AsyncClient, app: FastAPI) -> None:
    await put(client)
    decisions = await train(client, 0, 100)
    before = (await client.get(RUN)).json()
    written = await client.put(f"{RUN}/about", json=ABOUT)
    assert written.status_code == 200
    assert written.json() == {**before, "about": ABOUT}
    assert (await client.get(RUN)).json() == written.json()
    for words in ("good", "baseline", "run+7"):
        (found,) = (await client.get(f"/v1/runs?text={words}")).json()["runs"]
        assert (found["title"], found["tags"]) == ("The good one", ["baseline", "v2"])
        app.state.context.catalogue._looked = float("-inf")
    await train(client, 200, after=decisions[-1])
    assert (await client.put(f"{RUN}/about", json={})).json().get("about") is None
    app.state.context.catalogue._looked = float("-inf")
    assert (await client.get("/v1/runs?text=baseline")).json()["total"] == 0


async def test_what_does_not_fit_is_refused(client: AsyncClient) -> None:
    await put(client)
    for about in (
        {"title": "x" * 129},
        {"note": "x" * 2001},
        {"tags": [f"t{i}" for i in range(17)]},
        {"tags": ["with space"]},
        {"other": 1},
        {"title": 7},
    ):
        problem(await client.put(f"{RUN}/about", json=about), 422, "invalid")
    problem(await client.put("/v1/projects/vision/runs/none/about", json=ABOUT), 404, "run-not-found")
    answer = await client.put(f"{RUN}/about", json=ABOUT, headers={"Origin": "http://evil.example"})
    problem(answer, 403, "forbidden")


async def test_what_this_controller_cannot_read_hides_no_run(client: AsyncClient, app: FastAPI) -> None:
    await put(client)
    await app.state.context.store.annotate(RunKey("vision", "resnet"), '{"title": 7', 1.0)
    assert "about" not in (await client.get(RUN)).json()
    assert (await client.get("/v1/runs")).json()["total"] == 1
