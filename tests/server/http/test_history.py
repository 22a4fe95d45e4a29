"""Histories for people: pages, exports, another policy's view."""

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
from httpx import AsyncClient

from dcao_proto import Observation, Record, RunSpec
from dcao_proto.policy import PolicyState, bind
from dcao_server.history.columns import COLUMNS
from tests.server.http.asking import RUN, SPEC, problem, put, records, seen, train


async def filled(client: AsyncClient, count: int = 25) -> list[dict[str, object]]:
    """A run of two attempts."""
    await put(client)
    decisions = await train(client, *range(0, count * 10, 10))
    checkpoint = decisions[count // 2]
    body = {"step": checkpoint["step"], "state": checkpoint["state"], "version": checkpoint["version"]}
    attempt = (await client.post(RUN + "/attempts", json=body)).json()
    await train(client, *range(checkpoint["step"] + 10, count * 10, 10), after=attempt)
    return await records(client)


async def test_pages_follow_one_another_without_gap_or_overlap(client: AsyncClient) -> None:
    everything = await filled(client)
    found: list[dict[str, object]] = []
    cursor = None
    for _ in range(100):
        query = {"limit": "7"} | ({"after": cursor} if cursor else {})
        page = (await client.get(RUN + "/decisions", params=query)).json()
        assert len(page["records"]) <= 7
        found += page["records"]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert found == everything
    assert len(found) == 37
    assert (await client.get(RUN + "/decisions", params={"after": "2:240"})).json() == {"records": []}


@pytest.mark.parametrize("after", ["x", "1:", ":1", "1:-1", "1:1:1", "9" * 30, "1:9007199254740992"])
async def test_a_cursor_that_is_none_is_refused(client: AsyncClient, after: str) -> None:
    await put(client)
    for form in ("json", "csv"):
        problem(await client.get(RUN + "/decisions", params={"after": after, "format": form}), 422, "invalid")


async def test_ndjson_is_the_records_line_by_line(client: AsyncClient) -> None:
    everything = await filled(client)
    response = await client.get(RUN + "/decisions", params={"format": "ndjson"})
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in response.text.splitlines()] == everything
    part = await client.get(RUN + "/decisions", params={"format": "ndjson", "after": "1:100", "limit": "3"})
    assert [json.loads(line)["step"] for line in part.text.splitlines()] == [110, 120, 130]


async def test_csv_reads_back_bit_for_bit(client: AsyncClient) -> None:
    everything = [Record.model_validate(record) for record in await filled(client)]
    response = await client.get(RUN + "/decisions", params={"format": "csv"})
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="vision.resnet.csv"' in response.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [column.name for column in COLUMNS] == list(rows[0])
    parse = {"int": int, "float": float, "text": str, "bool": lambda text: text == "true"}
    for record, row in zip(everything, rows, strict=True):
        for column in COLUMNS:
            value = column.read(record)
            text = row[column.name]
            assert value == (None if text == "" and value is None else parse[column.kind](text)), column.name


async def test_parquet_holds_the_same_table(client: AsyncClient) -> None:
    everything = [Record.model_validate(record) for record in await filled(client)]
    response = await client.get(RUN + "/decisions", params={"format": "parquet"})
    table = pq.read_table(io.BytesIO(response.content))
    assert table.column_names == [column.name for column in COLUMNS]
    for column in COLUMNS:
        assert table[column.name].to_pylist() == [column.read(record) for record in everything]


async def test_an_empty_history_has_every_format(client: AsyncClient) -> None:
    await put(client)
    texts = {}
    for form in ("json", "ndjson", "csv", "parquet"):
        response = await client.get(RUN + "/decisions", params={"format": form})
        assert response.status_code == 200
        texts[form] = response.content
    assert json.loads(texts["json"]) == {"records": []}
    assert texts["ndjson"] == b""
    assert texts["csv"].count(b"\n") == 1
    assert pq.read_table(io.BytesIO(texts["parquet"])).num_rows == 0


async def test_histories_of_no_run_are_not_found(client: AsyncClient) -> None:
    for form in ("json", "ndjson", "csv", "parquet"):
        problem(await client.get(RUN + "/decisions", params={"format": form}), 404, "run-not-found")
    problem(await client.get(RUN + "/events"), 404, "run-not-found")
    problem(await client.post(RUN + ":replay", json={"name": "constant"}), 404, "run-not-found")


async def test_a_replay_under_the_same_policy_gives_the_recorded_decisions(client: AsyncClient) -> None:
    """Through a restart from a checkpoint too: the replayed state there is the checkpoint's."""
    everything = await filled(client)
    response = await client.post(RUN + ":replay", json=SPEC["policy"])
    assert response.headers["content-type"] == "application/x-ndjson"
    replayed = [json.loads(line) for line in response.text.splitlines()]
    assert [decision | {"persisted": True} for decision in replayed] == [record["decision"] for record in everything]


async def test_a_replay_under_another_policy_is_what_that_would_have_decided(client: AsyncClient) -> None:
    await put(client)
    await train(client, *range(0, 100, 10))
    response = await client.post(RUN + ":replay", json={"name": "power"})
    policy = bind(RunSpec.model_validate(SPEC | {"policy": {"name": "power"}}))
    state, version = PolicyState(), 0
    for line, step in zip(response.text.splitlines(), range(0, 100, 10), strict=True):
        own = policy.decide(Observation.model_validate(seen(step)), state, version)
        assert json.loads(line) == own.model_copy(update={"state": None}).wire()
        assert own.state is not None
        state, version = policy.state_of(own.state), own.version
    assert len(await records(client)) == 10


async def test_a_replay_under_no_policy_is_refused(client: AsyncClient) -> None:
    await put(client)
    problem(await client.post(RUN + ":replay", json={"name": "none"}), 422, "invalid")
    problem(await client.post(RUN + ":replay", json={"name": "paper", "params": {"x": 1}}), 422, "invalid")
