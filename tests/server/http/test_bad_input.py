"""Malformed, non-finite, oversized, out-of-order input: a problem document each, and the history is as it was."""

import base64
import json

import pytest
from httpx import AsyncClient

from tests.components.loop_watch import watched
from tests.server.http.asking import RUN, problem, put, records, seen, train

JSON = {"content-type": "application/json"}

MALFORMED = [b"", b"{", b"nul", b'{"step": 1,}', b"\xff\xfe", b'{"step": 01}', b"[" * 2000, b'{"step": "\x00"}']
MISFITS = [
    b"[]",
    b"null",
    b"{}",
    b'{"step": 1}',
    b'{"step": 1, "rho": NaN, "gamma": 1}',
    b'{"step": 1, "rho": Infinity, "gamma": 1}',
    b'{"step": 1, "rho": -Infinity, "gamma": 1}',
    b'{"step": 1, "rho": 1e999, "gamma": 1}',
    b'{"step": 1, "rho": "NaN", "gamma": 1}',
    b'{"step": 1, "rho": null, "gamma": 1}',
    b'{"step": 1, "rho": true, "gamma": 1}',
    b'{"step": 1, "rho": 1, "gamma": -1}',
    b'{"step": -1, "rho": 1, "gamma": 1}',
    b'{"step": 1.5, "rho": 1, "gamma": 1}',
    b'{"step": 9007199254740992, "rho": 1, "gamma": 1}',
    b'{"step": 1, "rho": 1, "gamma": 1, "unknown": 1}',
    b'{"step": 1, "rho": 1, "gamma": 1, "state": "x"}',
    b'{"step": 1, "rho": 1, "gamma": 1, "worker": "a/b"}',
    b'{"step": 1, "status": "diverged", "rho": 1, "gamma": 1}',
    b'{"step": 1, "rho": 1, "gamma": 1, "base": {"lr": 0.1, "momentum": 1.0}}',
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_what_is_no_json_is_malformed(client: AsyncClient, body: bytes) -> None:
    await put(client)
    await train(client, 0)
    response = await client.post(RUN + "/decisions", content=body, headers=JSON)
    problem(response, 400, "malformed")
    assert len(await records(client)) == 1


@pytest.mark.parametrize("body", MISFITS)
async def test_what_does_not_fit_is_invalid_and_is_not_echoed(client: AsyncClient, body: bytes) -> None:
    await put(client)
    await train(client, 0)
    document = problem(await client.post(RUN + "/decisions", content=body, headers=JSON), 422, "invalid")
    assert document["errors"]
    assert all(set(error) == {"loc", "msg", "type"} for error in document["errors"])
    assert len(await records(client)) == 1


async def test_the_problem_names_the_field(client: AsyncClient) -> None:
    await put(client)
    body = b'{"step": 1, "rho": NaN, "gamma": 1}'
    document = problem(await client.post(RUN + "/decisions", content=body, headers=JSON), 422, "invalid")
    assert document["errors"] == [
        {"loc": ["body", "rho"], "msg": "Input should be a finite number", "type": "finite_number"}
    ]


@pytest.mark.parametrize("token", ["dcao1.a.b.c", "x", "dcao1...", "é" * 10, "dcao1.eyJ9.e30.00000000"])
async def test_a_token_that_nobody_issued_is_an_invalid_state(client: AsyncClient, token: str) -> None:
    await put(client)
    response = await client.post(RUN + "/decisions", json=seen(1) | {"state": token, "version": 1})
    problem(response, 422, "invalid-state")
    assert await records(client) == []


async def test_a_damaged_token_is_an_invalid_state(client: AsyncClient) -> None:
    await put(client)
    last = (await train(client, 0))[-1]
    for index in range(0, len(last["state"]), 37):
        flipped = "A" if last["state"][index] != "A" else "B"
        damaged = last["state"][:index] + flipped + last["state"][index + 1 :]
        response = await client.post(RUN + "/decisions", json=seen(1, last) | {"state": damaged})
        problem(response, 422, "invalid-state")
    assert len(await records(client)) == 1


async def test_an_oversized_body_is_too_large(client: AsyncClient) -> None:
    await put(client)
    body = json.dumps(seen(1) | {"probe": {"fingerprint": "x" * 200_000}}).encode()
    problem(await client.post(RUN + "/decisions", content=body, headers=JSON), 413, "too-large")
    assert await records(client) == []


async def test_what_does_not_say_that_it_is_json_is_unsupported(client: AsyncClient) -> None:
    await put(client)
    response = await client.post(RUN + "/decisions", content=json.dumps(seen(1)).encode())
    problem(response, 415, "unsupported-media")


@pytest.mark.parametrize("name", ["a b", ".hidden", "-x", "x" * 64, "a%2Fb", "é"])
async def test_names_have_a_pattern(client: AsyncClient, name: str) -> None:
    for path in (f"/v1/projects/{name}/runs/r/decisions", f"/v1/projects/p/runs/{name}/decisions"):
        response = await client.post(path, json=seen(1))
        assert response.status_code in (404, 422), response.text
        assert response.headers["content-type"] == "application/problem+json"


async def test_wrong_methods_and_paths_are_problems_too(client: AsyncClient) -> None:
    allowed = problem(await client.patch(RUN + "/decisions", json={}), 405, "method-not-allowed")
    assert "GET" in allowed["detail"]
    problem(await client.get("/v1/nothing"), 404, "not-found")


@pytest.mark.parametrize("path", [RUN, RUN + "/attempts", RUN + ":finish", RUN + ":replay", "/v1/decide"])
async def test_every_route_answers_garbage_with_a_problem(client: AsyncClient, path: str) -> None:
    method = "PUT" if path == RUN else "POST"
    for body in (b"{", b"NaN", b'{"base": NaN}', b"[" * 2000):
        response = await client.request(method, path, content=body, headers=JSON)
        assert response.status_code in (400, 422), response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert b"NaN" not in response.content


@pytest.mark.parametrize("name", ["\ud800", "a/b", "", "x" * 64, "\x00"])
async def test_a_cursor_that_names_no_run_is_invalid(client: AsyncClient, name: str) -> None:
    text = base64.urlsafe_b64encode(json.dumps([1.5, name]).encode()).decode()
    problem(await client.get(f"/v1/projects/vision/runs?cursor={text}"), 422, "invalid")


@pytest.mark.parametrize("version", [2**53 - 2, 2**53 - 1, 2**40 + 1, 50])
async def test_a_version_that_no_run_can_have_is_no_version(client: AsyncClient, version: int) -> None:
    await put(client)
    last = (await train(client, 10))[-1]
    forged = {**last, "version": version}
    problem(await client.post(RUN + "/decisions", json=seen(20, forged)), 422, "invalid-state")
    assert [record["step"] for record in await records(client)] == [10]
    assert (await client.post(RUN + "/decisions", json=seen(20, last))).json()["version"] == 2


async def test_a_forged_version_comes_in_by_no_other_door(client: AsyncClient) -> None:
    await put(client)
    last = (await train(client, 10))[-1]
    forged = {"state": last["state"], "version": 2**53 - 2}
    problem(await client.post(RUN + "/attempts", json=forged), 422, "invalid-state")
    decision = {k: v for k, v in last.items() if k != "state"} | {"step": 20, "version": 2**53 - 2}
    entry = {"observation": seen(20), "decision": decision}
    response = await client.post(RUN + "/decisions:backfill", json={"entries": [entry]})
    problem(response, 422, "invalid-state")
    lost = {"step": 30, "status": "unavailable", **forged}
    problem(await client.post(RUN + "2/decisions", json=lost), 422, "invalid-state")


@pytest.mark.parametrize("limit", [1000, 10_000])
async def test_a_long_page_leaves_the_loop_to_others(client: AsyncClient, limit: int) -> None:
    await put(client)
    decision = {k: v for k, v in (await train(client, 1))[0].items() if k != "state"}
    for begin in range(2, 4002, 1000):
        made = [
            {"observation": seen(step), "decision": {**decision, "step": step, "version": step}}
            for step in range(begin, begin + 1000)
        ]
        assert (await client.post(RUN + "/decisions:backfill", json={"entries": made})).status_code == 200
    with watched() as held:
        page = await client.get(f"{RUN}/decisions?limit={limit}")
    assert held.seconds < 0.05, held.what
    found = page.json()
    assert [record["step"] for record in found["records"]] == list(range(1, min(limit, 4001) + 1))
    assert ("next_cursor" in found) == (limit < 4001)
