"""Malformed, non-finite, oversized, out-of-order input: a problem document each, and the history is as it was."""

import json

import pytest
from httpx import AsyncClient

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
