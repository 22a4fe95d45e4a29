"""Decisions that the protocol answers itself: the same answers, counts and log lines as through all layers."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcao_server.decisions.service import DecisionService
from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, create_key
from dcao_server.settings import Settings
from tests.server.asgi.conftest import Lines
from tests.server.asgi.two_ways import Way, both_ways, read_answer
from tests.server.http.asking import SPEC, seen

OBSERVATION = json.dumps(seen(10)).encode()
JSON = "Content-Type: application/json\r\n"


def request(
    run: str, body: bytes = OBSERVATION, headers: str = JSON, target: str = "/v1/projects/p/runs/{run}/decisions",
    method: str = "POST", version: str = "1.1", length: bool = True, host: str = "Host: localhost:8000\r\n",
) -> bytes:  # fmt: skip
    """A request as its bytes; its ID is `twin`."""
    own = f"Content-Length: {len(body)}\r\n" if length else ""
    head = f"{method} {target.format(run=run)} HTTP/{version}\r\n{host}X-Request-ID: twin\r\n{own}{headers}\r\n"
    return head.encode() + body


def created(run: str) -> bytes:
    return request(run, json.dumps(SPEC).encode(), target="/v1/projects/p/runs/{run}", method="PUT")


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


USUAL: dict[str, Callable[[str], list[bytes]]] = {
    "an observation": lambda run: [request(run)],
    "head and body in two packets": lambda run: [request(run)[:-300], request(run)[-300:]],
    "byte by byte": lambda run: [request(run)[:-3], *(bytes([b]) for b in request(run)[-3:])],
    "no such run": lambda run: [request("nobody")],
    "no JSON": lambda run: [request(run, b"{")],
    "not UTF-8": lambda run: [request(run, b'{"step": "\xff"}')],
    "fields that do not fit": lambda run: [request(run, b'{"step": -1, "rho": "NaN", "x": 1}')],
    "a token that is none": lambda run: [request(run, b'{"step":1,"status":"unavailable","state":"x","version":1}')],
    "an empty header": lambda run: [request(run, headers=JSON + "X-Empty:\r\n")],
    "a name that is not ours": lambda run: [request(run, host="Host: evil.example\r\n")],
    "a proxy's headers": lambda run: [request("nobody", headers=JSON + "X-Forwarded-For: 10.1.2.3, 127.0.0.1\r\n")],
    "a trace": lambda run: [request(run, headers=JSON + f"traceparent: 00-{'a' * 32}-{'b' * 16}-01\r\n")],
    "offering another protocol": lambda run: [request(run, headers=JSON + "Connection: upgrade\r\nUpgrade: h2c\r\n")],
}
UNUSUAL: dict[str, Callable[[str], list[bytes]]] = {
    "chunks": lambda run: [request(run, chunked(OBSERVATION), JSON + "Transfer-Encoding: chunked\r\n", length=False)],
    "no body": lambda run: [request(run, b"")],
    "another type": lambda run: [request(run, headers="Content-Type: text/plain\r\n")],
    "the type with a charset": lambda run: [request(run, headers="Content-Type: application/json; charset=utf-8\r\n")],
    "too large": lambda run: [request(run, b" " * 2_000_000)],
    "large": lambda run: [request(run, OBSERVATION + b" " * 100_000)],
    "a query": lambda run: [request(run, target="/v1/projects/p/runs/{run}/decisions?a=b")],
    "a key in the query": lambda run: [request(run, target="/v1/projects/p/runs/{run}/decisions?k=dcao_abcd_x")],
    "a name that is none": lambda run: [request(run, target="/v1/projects/p/runs/-{run}/decisions")],
    "percent signs": lambda run: [request(run, target="/v1/projects/%70/runs/{run}/decisions")],
    "another method": lambda run: [request(run, method="PATCH")],
    "reading": lambda run: [request(run, method="GET")],
    "HTTP/1.0": lambda run: [request(run, version="1.0")],
    "to be closed": lambda run: [request(run, headers=JSON + "Connection: close\r\n")],
    "a header twice": lambda run: [request(run, headers=JSON + "X-Request-ID: other\r\n")],
    "no host": lambda run: [request(run, host="")],
    "two hosts": lambda run: [request(run, headers=JSON + "Host: localhost\r\n")],
    "another page": lambda run: [request(run, headers=JSON + "Origin: http://evil.example\r\n")],
    "another site": lambda run: [request(run, headers=JSON + "Sec-Fetch-Site: cross-site\r\n")],
    "our page": lambda run: [request(run, headers=JSON + "Origin: http://localhost:8000\r\n")],
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, access_log="all")


def counts(app: Any) -> dict[tuple[str, ...], float]:
    """Of requests and of problems, by their labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in app.state.context.metrics.registry.collect()
        for sample in family.samples
        if sample.name in ("dcao_http_requests_total", "dcao_problems_total", "dcao_decisions_total")
        or (sample.name == "dcao_http_request_duration_seconds_count")
    }


async def answered(app: Any, way: Way, parts: list[bytes], log: Lines) -> tuple[list[bytes], Any, Any]:
    """What one way answers, counts and logs."""
    before, logged = counts(app), len(log("dcao.access"))
    answers = await way.exchange(parts)
    await asyncio.sleep(0.01)
    more = {key: value - before.get(key, 0) for key, value in counts(app).items() if value != before.get(key, 0)}
    lines = [
        {name: value for name, value in line.items() if name not in ("seconds", "timestamp", "path")}
        for line in log("dcao.access")[logged:]
    ]
    return answers, more, lines


@pytest.mark.parametrize("name", [*USUAL, *UNUSUAL])
async def test_both_ways_give_the_same_answer_counts_and_log_lines(settings: Settings, name: str, logs: Lines) -> None:
    parts = (USUAL | UNUSUAL)[name]
    async with both_ways(settings) as (app, direct, layers):
        await layers.exchange([created("run-a")])
        await layers.exchange([created("run-b")])
        ours, counted, logged = await answered(app, direct, parts("run-a"), logs)
        theirs, their_counts, their_log = await answered(app, layers, parts("run-b"), logs)
        assert [answer.replace(b"run-a", b"run-b") for answer in ours] == theirs
        assert counted == their_counts
        assert logged == their_log
        assert counted, "every request is counted"
        assert len(logged) == 1
        assert direct.answered_directly == (name in USUAL)
        assert layers.answered_directly == 0


@pytest.mark.parametrize(
    ("scopes", "status"),
    [(None, 401), ({"p": Scope.READ}, 403), ({"q": Scope.WRITE}, 403), ({"p": Scope.WRITE}, 404)],
    ids=["a stranger", "a reader", "a writer elsewhere", "a writer"],
)
async def test_both_ways_admit_alike(tmp_path: Path, scopes: dict[str, Scope] | None, status: int) -> None:
    file = KeyFile(tmp_path / "keys.jsonl")
    key, record = create_key(scopes or {"p": Scope.WRITE})
    file.add(record)
    sent = request("nobody", headers=JSON + (f"Authorization: Bearer {key}\r\n" if scopes else ""))
    async with both_ways(Settings(data=tmp_path, api_keys_file=file.path)) as (_, direct, layers):
        ours, theirs = (await direct.exchange([sent]))[0], (await layers.exchange([sent]))[0]
        assert ours == theirs
        assert ours.startswith(b"HTTP/1.1 %d " % status)
        assert direct.answered_directly == 1


async def test_both_ways_count_towards_one_limit_of_a_keys_rate(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.jsonl")
    key, record = create_key({"p": Scope.WRITE})
    file.add(record)
    sent = request("nobody", headers=JSON + f"Authorization: Bearer {key}\r\n")
    settings = Settings(data=tmp_path, api_keys_file=file.path, rate_limit=0.001, rate_burst=2)
    async with both_ways(settings) as (_, direct, layers):
        answers = [(await way.exchange([sent]))[0] for way in (direct, layers, direct, layers)]
        assert [answer[9:12] for answer in answers] == [b"404", b"404", b"429", b"429"]
        assert b"retry-after: " in answers[2]


async def test_a_refusal_is_noted_with_the_client_that_the_proxy_saw(tmp_path: Path, logs: Lines) -> None:
    file = KeyFile(tmp_path / "keys.jsonl")
    file.add(create_key({"p": Scope.WRITE})[1])
    async with both_ways(Settings(data=tmp_path, api_keys_file=file.path)) as (_, direct, _layers):
        await direct.exchange([request("r", headers=JSON + "X-Forwarded-For: 10.1.2.3\r\n")])
        await asyncio.sleep(0.6)
        assert direct.answered_directly == 1
        assert [line["client"] for line in logs("dcao.audit")] == ["10.1.2.3"]


async def test_what_fails_is_a_problem_document_without_a_trace(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, logs: Lines
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("a secret that must not leave")

    monkeypatch.setattr(DecisionService, "decide", fail)
    async with both_ways(settings) as (_, direct, layers):
        ours, theirs = (await direct.exchange([request("r")]))[0], (await layers.exchange([request("r")]))[0]
        assert ours == theirs
        assert ours.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in ours
        assert "a secret that must not leave" in str(logs("dcao_server.asgi.envelope"))


async def test_pipelined_requests_are_answered_in_their_order(settings: Settings) -> None:
    async with both_ways(settings) as (_, direct, _layers):
        await direct.exchange([created("r")])
        bodies = [json.dumps(seen(10 * i)).encode() for i in range(1, 8)]
        answers = await direct.exchange([b"".join(request("r", body) for body in bodies)], len(bodies))
        assert [json.loads(a.partition(b"\r\n\r\n")[2])["step"] for a in answers] == [10 * i for i in range(1, 8)]
        assert direct.answered_directly == len(bodies), "each waits for the answer before it"


async def test_a_connection_is_used_again_and_changes_hands_between_the_two(settings: Settings) -> None:
    async with both_ways(settings) as (_, direct, _layers), direct.connection() as (reader, writer):
        for sent, status in [
            (created("r"), 201),
            (request("r"), 200),
            (request("r", b"{"), 400),
            (request("r", method="PATCH"), 405),
            (request("r", json.dumps(seen(20)).encode()), 200),
        ]:
            writer.write(sent)
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 %d " % status)
        assert direct.answered_directly == 3


async def test_a_client_that_goes_before_its_body_came_is_counted_and_nothing_is_stored(settings: Settings) -> None:
    async with both_ways(settings) as (app, direct, layers):
        await direct.exchange([created("r")])
        for way in (direct, layers):
            before = counts(app)
            async with way.connection() as (_, writer):
                writer.write(request("r")[:-5])
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)
            key = ("dcao_http_requests_total", "/v1/projects/{project}/runs/{run}/decisions", "POST", "499")
            assert counts(app)[key] == before.get(key, 0) + 1
        history = await direct.exchange([request("r", b"", "", method="GET", length=False)])
        assert json.loads(history[0].partition(b"\r\n\r\n")[2])["records"] == []


async def test_a_draining_replica_asks_to_leave_and_closes(settings: Settings) -> None:
    async with both_ways(settings) as (app, direct, layers):
        await direct.exchange([created("r")])
        app.state.lifecycle.drain()
        answers = []
        for way in (direct, layers):
            async with way.connection() as (reader, writer):
                writer.write(request("nobody"))
                answers.append(await asyncio.wait_for(reader.read(), 5))  # until the other side closes
        assert answers[0] == answers[1]
        assert answers[0].count(b"connection: close\r\n") == 1


async def test_a_decision_in_flight_at_the_shutdown_is_answered_and_its_connection_closed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = DecisionService.decide
    asked = asyncio.Event()

    async def late(*arguments: Any) -> Any:
        asked.set()
        await asyncio.sleep(0.1)
        return await decide(*arguments)

    async with both_ways(settings) as (_, direct, _layers):
        await direct.exchange([created("r")])
        monkeypatch.setattr(DecisionService, "decide", late)
        async with direct.connection() as (reader, writer):
            writer.write(request("r"))
            await asked.wait()
            for connection in list(direct.state.connections):
                connection.shutdown()  # what uvicorn does
            answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in answer


async def test_a_decision_that_outlives_the_grace_is_cut_off(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def never(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(DecisionService, "decide", never)
    async with both_ways(settings) as (_, direct, _layers), direct.connection() as (reader, writer):
        writer.write(request("r"))
        await asked.wait()
        for task in list(direct.state.tasks):
            task.cancel()  # what uvicorn does
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_an_id_of_its_own_is_given_to_each_request_without_one(settings: Settings) -> None:
    async with both_ways(settings) as (_, direct, _layers):
        bare = request("r").replace(b"X-Request-ID: twin\r\n", b"")
        answers = [(await direct.exchange([bare]))[0] for _ in range(3)]
        ids = {re.search(rb"x-request-id: ([0-9a-f]+-[0-9a-f]+)\r\n", answer) for answer in answers}
        assert None not in ids
        assert len({found[1] for found in ids if found}) == 3
