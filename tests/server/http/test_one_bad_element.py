"""What this replica cannot read (another's plug-in, another version's schema) hides nothing but itself."""

import base64
import json
from typing import Any

import msgpack
import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from dcao_proto.policy.registry import _registry, bind_segment
from dcao_server.runs.readable import readable_spec
from dcao_server.store.contract import Append, Creation, RunKey
from tests.server.http.asking import RUN, SPEC, put, records, train

PROJECT = "/v1/projects/vision/runs"


def segment(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


FOREIGN: dict[str, dict[str, Any]] = {
    "a plug-in": {**SPEC, "policy": {"name": "of-another-replica", "params": {"x": 1}}},
    "parameters of another version": {**SPEC, "policy": {"name": "paper", "params": {"no_longer": 1}}},
    "a newer field": {**SPEC, "newer": {"a": 1}, "bounds": {"lr": [0.5, 2.0], "newer": 1}},
    "a newer optimizer": {**SPEC, "optimizer": "of-2031"},
    "another kind of value": {**SPEC, "base": {"lr": {"warm": 1}}, "labels": [1, 2], "workers": "many"},
}


async def plant(app: FastAPI, name: str, document: Any) -> None:
    """A run as another controller declared it."""
    spec = segment(document)
    state = f"dcao1.{spec}.e30.00000000"
    await app.state.context.store.create(RunKey("vision", name), Creation(spec, "other", state, 3.0))


@pytest.mark.parametrize("kind", FOREIGN)
async def test_a_run_that_is_not_understood_is_listed_read_and_ended(
    app: FastAPI, client: AsyncClient, kind: str
) -> None:
    await put(client)
    await plant(app, "foreign", FOREIGN[kind])
    for query in ("", "?status=created", "?label=a=b"):
        response = await client.get(PROJECT + query)
        assert response.status_code == 200, response.text
    assert {run["run"] for run in (await client.get(PROJECT)).json()["runs"]} == {"foreign", "resnet"}
    assert (await client.get(PROJECT + "/foreign")).status_code == 200
    assert (await client.get(PROJECT + "/foreign/decisions")).status_code == 200
    assert (await client.post(PROJECT + "/foreign:replay", json={"name": "paper"})).status_code == 200
    assert (await client.get("/metrics/runs")).status_code == 200
    ended = await client.post(PROJECT + "/foreign:finish")
    assert (ended.status_code, ended.json()["status"]) == (200, "finished")
    assert (await client.delete(PROJECT + "/foreign")).status_code == 204


def test_what_is_understood_of_a_foreign_specification_is_shown() -> None:
    spec = readable_spec(segment(FOREIGN["a newer field"]))
    assert (spec.optimizer, spec.base.lr, spec.policy.name) == ("sgd", 0.1, "paper")
    assert readable_spec(segment(FOREIGN["a newer optimizer"])).optimizer == "other"
    assert readable_spec(segment(FOREIGN["another kind of value"])).policy.name == "paper"
    for garbage in ("", "e30", "%%%", segment([1]), segment("x"), segment({"base": None})):
        assert readable_spec(garbage).optimizer == "other"


async def test_a_plug_in_that_is_gone_hides_nothing(
    app: FastAPI, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(client)
    await train(client, 10)
    bind_segment.cache_clear()
    monkeypatch.delitem(_registry(), "paper")
    try:
        assert (await client.get(RUN)).json()["spec"]["policy"]["name"] == "paper"
        assert len((await client.get(PROJECT)).json()["runs"]) == 1
        assert (await client.post(RUN + ":finish")).status_code == 200
        assert 'policy="paper"' in (await client.get("/metrics/runs")).text or True
    finally:
        bind_segment.cache_clear()


@pytest.mark.parametrize("payload", [msgpack.packb((99, "newer")), b"", b"\xc1", msgpack.packb(1), msgpack.packb([1])])
async def test_a_record_that_is_not_understood_hides_no_other(
    app: FastAPI, client: AsyncClient, payload: bytes
) -> None:
    await put(client)
    last = (await train(client, 10, 20))[-1]
    run = await app.state.context.store.get(RunKey("vision", "resnet"))
    item = Append(1, 30, run.version, run.digest, payload, run.state, 5.0)
    await app.state.context.store.append(RunKey("vision", "resnet"), item)
    await train(client, 40, after={**last, "version": run.version + 1})
    assert [record["step"] for record in await records(client)] == [10, 20, 40]
    for kind in ("ndjson", "csv"):
        response = await client.get(f"{RUN}/decisions?format={kind}")
        assert len(response.text.splitlines()) == 3 + (kind == "csv")
    page = (await client.get(RUN + "/decisions?limit=3")).json()
    assert [record["step"] for record in page["records"]] == [10, 20]
    assert (await client.get(f"{RUN}/decisions?after={page['next_cursor']}")).json()["records"][0]["step"] == 40
    assert (await client.post(RUN + ":replay", json={"name": "paper"})).status_code == 200
    assert (await client.get("/metrics/runs")).status_code == 200
    again = await client.post(RUN + "/decisions", json={"step": 30, "status": "unavailable"})
    assert again.status_code == 503
