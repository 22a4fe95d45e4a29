"""Runs searched and sorted over all projects, on every store."""

import asyncio
import gzip
from typing import Any

from fastapi import FastAPI
from httpx import AsyncClient

from dcao_server.runs import catalogue
from dcao_server.security.keys import Scope, create_key
from dcao_server.store.contract import RunKey
from tests.server.http.asking import SPEC, problem, put, train
from tests.server.store.opening import creation


def path(project: str, run: str) -> str:
    return f"/v1/projects/{project}/runs/{run}"


async def listed(client: AsyncClient, query: str = "") -> dict[str, Any]:
    response = await client.get(f"/v1/runs?{query}")
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


async def names(client: AsyncClient, query: str = "") -> list[str]:
    return [run["run"] for run in (await listed(client, query))["runs"]]


async def some(client: AsyncClient) -> None:
    """Three runs of two projects; one is live, one young, one has ended."""
    edge = {**SPEC, "policy": {"name": "edge"}, "labels": {"model": "resnet18", "seed": "1"}}
    await put(client, edge, path("vision", "live"))
    await train(client, 0, 100, 200, run=path("vision", "live"))
    await put(client, {**SPEC, "labels": {"model": "gpt"}}, path("language", "over"))
    await train(client, 0, 50, run=path("language", "over"))
    await client.post(path("language", "over") + ":finish")
    await put(client, SPEC, path("vision", "young"))


async def test_a_run_is_listed_with_its_newest_values_and_an_ended_one_with_its_last(client: AsyncClient) -> None:
    await some(client)
    page = await listed(client)
    assert (page["total"], page["complete"]) == (3, True)
    runs = {run["run"]: run for run in page["runs"]}
    for name, step in (("live", 200), ("over", 50)):
        assert runs[name]["last_step"] == step
        assert runs[name]["sharpness"] == 12.0 + step / 7
        assert runs[name]["edge_ratio"] > 0
    assert "edge_ratio" not in runs["young"]
    assert [run["run"] for run in page["runs"]][-1] == "over", "live ones come first"


async def test_each_filter_alone_and_together(client: AsyncClient) -> None:
    await some(client)
    assert set(await names(client, "project=vision")) == {"live", "young"}
    assert set(await names(client, "status=live")) == {"live", "young"}
    assert await names(client, "status=ended") == ["over"]
    assert await names(client, "status=created") == ["young"]
    assert await names(client, "policy=edge") == ["live"]
    assert await names(client, "label=model%3Dresnet18&label=seed%3D1") == ["live"]
    assert await names(client, "label=model%3Dresnet") == []
    assert await names(client, "text=RESNET+edge") == ["live"]
    assert await names(client, "text=model%3Dgpt") == ["over"]
    assert await names(client, "text=finished") == ["over"]
    assert await names(client, "project=vision&text=gpt") == []


async def test_every_order_and_what_lacks_the_value_is_last(client: AsyncClient) -> None:
    await some(client)
    assert await names(client, "sort=name&ascending=true") == ["live", "over", "young"]
    assert await names(client, "sort=step") == ["live", "over", "young"]
    assert await names(client, "sort=step&ascending=true") == ["over", "live", "young"]
    for order in ("sharpness", "edge", "lr", "loss", "created", "status", "policy"):
        for way in ("true", "false"):
            assert set(await names(client, f"sort={order}&ascending={way}")) == {"live", "over", "young"}
    assert await names(client, "sort=sharpness&ascending=true") == ["over", "live", "young"]


async def test_pages_are_cut_out_of_the_whole_order(client: AsyncClient) -> None:
    for index in range(7):
        await put(client, SPEC, path("vision", f"run{index}"))
    whole = await names(client, "sort=name&ascending=true")
    cut = [await names(client, f"sort=name&ascending=true&limit=3&offset={offset}") for offset in (0, 3, 6)]
    assert [name for part in cut for name in part] == whole
    assert (await listed(client, "limit=3"))["total"] == 7


async def test_what_happens_meanwhile_is_seen(client: AsyncClient, app: FastAPI) -> None:
    await some(client)
    await listed(client)
    await client.delete(path("vision", "young"))
    await train(client, 300, run=path("vision", "live"))
    await put(client, SPEC, path("vision", "newest"))
    page = await listed(client)
    assert next(run for run in page["runs"] if run["run"] == "live")["last_step"] == 300, "rows are read anew"
    assert "young" not in [run["run"] for run in page["runs"]]
    app.state.context.catalogue._looked = float("-inf")  # two seconds later
    page = await listed(client)
    assert {run["run"] for run in page["runs"]} == {"live", "over", "newest"}
    assert page["total"] == 3


async def test_a_key_sees_the_runs_of_its_projects(client: AsyncClient, app: FastAPI) -> None:
    await some(client)
    _, key = create_key({"language": Scope.READ})
    page = await app.state.context.catalogue.list(catalogue.Query(), key)
    assert [run.project for run in page.runs] == ["language"]
    assert page.total == 1


async def test_ten_thousand_runs_are_listed_while_they_are_read_and_then_whole(
    client: AsyncClient, app: FastAPI
) -> None:
    store = app.state.context.store
    for begin in range(0, 10_000, 100):
        some = range(begin, begin + 100)
        await asyncio.gather(
            *(store.create(RunKey("large", f"run{index:05}"), creation(now=1000.0 + index)) for index in some)
        )
    page = await listed(client, "limit=50")
    assert len(page["runs"]) == 50
    while not page["complete"]:
        page = await listed(client, "limit=50")
    assert page["total"] == 10_000
    assert (await names(client, "sort=name&limit=1&text=run09999")) == ["run09999"]
    assert (await names(client, "sort=created&ascending=true&limit=1")) == ["run00000"]


async def test_no_more_are_held_than_may_be(client: AsyncClient, monkeypatch: Any) -> None:
    monkeypatch.setattr(catalogue, "MOST_RUNS", 5)
    for index in range(8):
        await put(client, SPEC, path("vision", f"run{index}"))
    page = await listed(client)
    assert (page["total"], page["complete"]) == (5, False)


async def test_a_long_list_is_compressed_for_who_takes_it(client: AsyncClient) -> None:
    for index in range(12):
        await put(client, SPEC, path("vision", f"run{index}"))
    async with client.stream("GET", "/v1/runs", headers={"Accept-Encoding": "gzip"}) as response:
        raw = b"".join([part async for part in response.aiter_raw()])
    assert response.headers["content-encoding"] == "gzip"
    plain = await client.get("/v1/runs", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert len(raw) < len(plain.content) / 3
    assert b'"total":12' in gzip.decompress(raw)


async def test_what_does_not_fit_is_refused(client: AsyncClient) -> None:
    for query in ("sort=size", "status=dead", "offset=-1", "limit=1000", "label=nothing", f"text={'x' * 300}"):
        problem(await client.get(f"/v1/runs?{query}"), 422, "invalid")
