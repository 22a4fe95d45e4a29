"""A body that does not fit costs next to nothing, whatever is in it and however large it is."""

import json
import tracemalloc
from collections.abc import AsyncIterator, Callable

import pytest
from httpx import AsyncClient

from tests.components.loop_watch import watched
from tests.server.http.asking import RUN, SPEC, problem, put, records, seen, train

JSON = {"content-type": "application/json"}
HELD = 0.05
KIB, MIB = 1024, 1024 * 1024


def filled(begin: bytes, item: bytes, end: bytes, size: int) -> bytes:
    """`begin`, then `item`s with commas between them up to a size, then `end`."""
    count = (size - len(begin) - len(end)) // (len(item) + 1)
    return begin + b",".join([item] * count) + end


def entry() -> bytes:
    decision = {
        "attempt": 1, "step": 1, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "multipliers": {}, "regime": "stable",
        "next_probe_in": 100, "policy": "paper@1", "version": 1,
    }  # fmt: skip
    return json.dumps({"observation": {"step": 1, "rho": 1.0, "gamma": 1.0}, "decision": decision}).encode()


DENSE: dict[str, Callable[[int], bytes]] = {
    "empty groups": lambda size: filled(b'{"step":1,"rho":1,"gamma":1,"groups":[', b"{}", b"]}", size),
    "empty entries": lambda size: filled(b'{"entries":[', b"{}", b"]}", size),
    "nested lists": lambda size: filled(b'{"entries":[[', b"[]", b"]]}", size),
    "a list": lambda size: filled(b"[", b"[]", b"]", size),
    "unknown fields": lambda size: filled(b'{"step":1', b'"a":1', b"}", size),
    "entries with unknown fields": lambda size: filled(b'{"entries":[{', b'"a":{}', b"}]}", size),
    "numbers": lambda size: filled(b'{"entries":[', b"0", b"]}", size),
    "no end": lambda size: filled(b'{"entries":[{"observation":{', b'"a":[', b"", size),
    "braces in a text": lambda size: filled(b'{"entries":[{"observation":"', b"{}[]", b'"}]}', size),
    "a long text": lambda size: b'{"entries":[{"observation":"' + b"x" * size + b'"}]}',
    "backslashes": lambda size: b'{"entries":[{"observation":"' + b"\\\\" * (size // 2) + b'"}]}',
    "reasons": lambda size: filled(
        b'{"entries":[' + entry()[:-2] + b',"reasons":[', b'"calibrated"', b"]}}]}", size
    ),
    "labels": lambda size: filled(json.dumps(SPEC).encode()[:-1] + b',"labels":{', b'"-":1', b"}}", size),
    "parameters": lambda size: filled(
        b'{"optimizer":"sgd","base":{"lr":1},"policy":{"params":{', b'"a":[]', b"}}}", size
    ),
    "depth": lambda size: b"[" * size,
}  # fmt: skip
ROUTES = {
    "PUT": RUN,
    "decisions": RUN + "/decisions",
    "backfill": RUN + "/decisions:backfill",
    "decide": "/v1/decide",
    "attempts": RUN + "/attempts",
    "finish": RUN + ":finish",
    "fail": RUN + ":fail",
    "replay": RUN + ":replay",
}


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("route", ROUTES)
async def test_what_does_not_fit_is_refused_before_it_is_work(client: AsyncClient, route: str, kind: str) -> None:
    await put(client)
    method = "PUT" if route == "PUT" else "POST"
    largest = 15 * MIB if route == "backfill" else 125 * KIB
    for size in (3 * KIB, 14 * KIB, largest):
        body = DENSE[kind](size)
        with watched() as held:
            response = await client.request(method, ROUTES[route], content=body, headers=JSON)
        assert response.status_code in (400, 413, 422), response.text
        assert len(response.content) < 10_000
        assert held.seconds < HELD, held.what
    assert await records(client) == []


@pytest.mark.parametrize("kind", ["empty entries", "nested lists", "numbers", "no end", "reasons", "a long text"])
async def test_a_refused_backfill_takes_less_than_ten_times_its_size(client: AsyncClient, kind: str) -> None:
    await put(client)
    body = DENSE[kind](4 * MIB)
    tracemalloc.start()
    try:
        response = await client.post(RUN + "/decisions:backfill", content=body, headers=JSON)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert response.status_code in (400, 413, 422)
    assert most < 10 * len(body)


async def test_a_full_backfill_leaves_the_loop_to_others(client: AsyncClient) -> None:
    """A thousand entries, some with groups: taken apart, decided again and stored in slices."""
    await put(client)
    groups = [{"name": f"g{i}", "slope": 1.0, "curvature": 2.0} for i in range(64)]
    made = []
    for step in range(10, 10_010, 10):
        observation = seen(step, groups=groups if step % 100 == 0 else None)
        decision = {**json.loads(entry())["decision"], "step": step, "version": step // 10}
        made.append({"observation": {k: v for k, v in observation.items() if v is not None}, "decision": decision})
    body = json.dumps({"entries": made}).encode()
    with watched() as held:
        response = await client.post(RUN + "/decisions:backfill", content=body, headers=JSON)
    assert response.json()["stored"] == 1000, response.text
    assert held.seconds < HELD, held.what


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b'{"entries": [' + b",".join([entry()] * 1001) + b"]}", 422, "invalid"),
        (b'{"entries": []}', 422, "invalid"),
        (b'{"entries": [' + entry() + b"],}", 400, "malformed"),
        (b'{"entries": [' + entry() + b" " + entry() + b"]}", 400, "malformed"),
        (b'{"entries": [' + entry() + b",]}", 422, "invalid"),
        (b'{"entries": [' + entry()[:-1] + b"]}", 400, "malformed"),
        (b'{"entries": [' + entry() + b'], "entries": []}', 400, "malformed"),
        (b'{"entries": [' + entry() + b'], "more": 1}', 422, "invalid"),
        (b'{"entries": [{"observation": {"step": "' + b"1" * 100 + b'"}, "decision": {}}]}', 422, "invalid"),
    ],
)
async def test_what_is_no_journal_says_so(client: AsyncClient, body: bytes, status: int, slug: str) -> None:
    await put(client)
    response = await client.post(RUN + "/decisions:backfill", content=body, headers=JSON)
    problem(response, status, slug)
    assert await records(client) == []


async def test_the_place_of_a_misfit_in_a_journal_is_named(client: AsyncClient) -> None:
    await put(client)
    body = b'{ "entries" : [' + entry() + b' , {"observation": {"step": -1}, "decision": {}} ] }'
    document = problem(await client.post(RUN + "/decisions:backfill", content=body, headers=JSON), 422, "invalid")
    assert document["errors"][0]["loc"][:3] == ["body", "entries", 1]
    assert len(document["errors"]) <= 20


@pytest.mark.parametrize("text", ['"\\ud800"', '"a\\udfff"', "NaN", "1e999"])
async def test_no_route_takes_what_no_answer_can_hold(client: AsyncClient, text: str) -> None:
    await put(client)
    for method, route, body in (
        ("PUT", RUN + "2", '{"optimizer": "sgd", "base": {"lr": 1}, "labels": {"a": %s}}'),
        ("PUT", RUN + "2", '{"optimizer": "sgd", "base": {"lr": 1}, "policy": {"params": {"a": %s}}}'),
        ("POST", RUN + ":finish", '{"reason": %s}'),
        ("POST", RUN + ":replay", '{"name": %s}'),
        ("POST", RUN + "/attempts", '{"state": %s, "version": 1}'),
        ("POST", RUN + "/decisions", '{"step": 1, "status": "unavailable", "worker": %s}'),
        ("POST", "/v1/decide", '{"spec": {"optimizer": %s}, "observation": {}}'),
    ):
        response = await client.request(method, route, content=body % text, headers=JSON)
        assert response.status_code in (400, 422), (route, response.text)


@pytest.mark.parametrize("route", [RUN, RUN + ":finish", RUN + "/attempts", RUN + ":replay", "/v1/decide"])
async def test_a_body_in_chunks_that_grows_too_large_is_too_large(client: AsyncClient, route: str) -> None:
    await put(client)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 10_000

    method = "PUT" if route == RUN else "POST"
    problem(await client.request(method, route, content=chunks(), headers=JSON), 413, "too-large")


async def test_every_route_has_a_limit_that_fits(client: AsyncClient) -> None:
    await put(client)
    await train(client, 10)
    for route, size in ((":finish", 5), (":fail", 5), (":replay", 17), ("/attempts", 97), ("/decisions", 129)):
        response = await client.post(RUN + route, content=b" " * size * KIB, headers=JSON)
        problem(response, 413, "too-large")
