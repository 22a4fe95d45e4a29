"""What somebody else wrote into the store: a foreign program, half a backup, a newer version, a bug.

It is the trouble of one run, which is named; every other run, the listing, the metrics and `gc` go on.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from structlog.testing import capture_logs

from dcao_proto import Record
from dcao_server.metrics.run_metrics import RunMetrics
from dcao_server.retention import collect
from dcao_server.store import SQLITE_FILE
from tests.components.redis_server import RedisServer
from tests.server.http.asking import RUN, SPEC, put, records, seen, train

PROJECT = "/v1/projects/vision/runs"
SPOILT = PROJECT + "/spoilt"
PREFIX = "dcao:1:{vision/spoilt}:"
NONSENSE = (b"", b"garbage", b"\xff\xfe", b"-1", b"1e999", b"nan", b"9" * 30, b"1:2:3:4,", b"0x10", b" 7 ")

Damage = Callable[[Any], object]


def _field(name: str, value: bytes) -> Damage:
    return lambda redis: redis.hset(PREFIX + "meta", name, value)


def _without(*names: str) -> Damage:
    return lambda redis: redis.hdel(PREFIX + "meta", *names)


def _of_another_kind(suffix: str) -> Damage:
    def damage(redis: Any) -> None:
        redis.delete(PREFIX + suffix)
        redis.set(PREFIX + suffix, "mine")

    return damage


def _record(step_id: str, fields: dict[str, bytes]) -> Damage:
    return lambda redis: redis.xadd(PREFIX + "h:1", fields, id=step_id)


FIELDS = ("spec", "dg", "status", "a", "v", "st", "last", "born", "hb", "atts", "as", "av")
VALUES = ("", 1, None, [1], {"a": 1}, b"\xff", float("nan"), float("inf"), 10**18, -1)


def _payloads() -> dict[str, bytes]:
    """Records of our schema with one part that is something else."""
    seen_, decided = ("ok", 1.0, 1.0, None, None, None, 1.0, None, None, None, 1.0), (
        0.1, 0.9, 0.0, None, "stable", (), 100, "continue", "paper@1", 2,
    )  # fmt: skip
    whole = (1, 5.0, 0, seen_, None, None, None, None, None, decided, (1.0, 1.0, 1.0), None)
    found = {"none": b"", "text": b"mine", "newer": msgpack.packb((*whole, None, None, "more"))}
    for index in range(1, len(whole)):
        for value in VALUES:
            found[f"part {index} is {value!r}"] = msgpack.packb((*whole[:index], value, *whole[index + 1 :]))
    for place, parts in ((3, seen_), (9, decided), (10, (1.0, 1.0, 1.0))):
        for index in range(len(parts)):
            for value in VALUES:
                bent = (*parts[:index], value, *parts[index + 1 :])
                found[f"{place}.{index} is {value!r}"] = msgpack.packb((*whole[:place], bent, *whole[place + 1 :]))
    return found


PAYLOADS = _payloads()
IN_REDIS: dict[str, Damage] = {
    **{f"{name} is {value!r}": _field(name, value) for name in FIELDS for value in NONSENSE},
    **{f"no {name}": _without(name) for name in FIELDS},
    "only a digest": _without(*(name for name in FIELDS if name != "dg")),
    "newer fields": lambda redis: redis.hset(PREFIX + "meta", mapping={"zz": "1", "newer": b"\xff"}),
    **{f"{suffix} of another kind": _of_another_kind(suffix) for suffix in ("meta", "h:1", "n")},
    "counts that are none": lambda redis: redis.hset(PREFIX + "n", mapping={b"\xff": 1, "decided": "many", "x": "1e9"}),
    "a record of others": _record("30-1", {"mine": b"x"}),
    "a record at a time": _record("1700000000000-0", {"d": b"x", "more": b"y"}),
    "a record at the end of time": _record("18446744073709551615-18446744073709551615", {"d": b"x"}),
    "several at one step": lambda redis: [_record(f"30-{n}", {"d": b"x"})(redis) for n in range(1, 120)],
    "a run without a name": lambda redis: [
        redis.zadd(
            f"dcao:1:idx:{{vision}}:{index}", {name: time.time() + 5 for name in (b"\xff", b"", b"a b", b"x" * 99)}
        )
        for index in ("runs", "active")
    ],
    "projects without a name": lambda redis: redis.zadd(
        "dcao:1:idx:projects", {b"\xff": 0, b"": 0, b"a/b": 0, b"-": 0}
    ),
}
SQL = {
    **{
        f"{name} is {value}": f"UPDATE runs SET {name} = {value} WHERE run = 'spoilt'"
        for name, values in {
            "status": ("''", "'of 2031'", "CAST(x'ff' AS TEXT)"),
            "spec": ("''", "CAST(x'ff' AS TEXT)"),
            "state": ("''", "'dcao9.a.b.c'", "CAST(x'ff' AS TEXT)"),
            "reason": ("CAST(x'ff' AS TEXT)", f"'{'x' * 5000}'"),
            "attempt": ("-1", str(2**62)),
            "version": ("-1", str(2**62)),
            "last_step": ("-5", str(2**62)),
            "decisions": ("-5", str(2**62)),
            "created_at": ("-9e999", "9e999", "1e300", "-5"),
            "updated_at": ("9e999", "1e300", "-9e999"),
            "run": ("'a b'", "CAST(x'ff' AS TEXT)"),
        }.items()
        for value in values
    },
    "attempts": "UPDATE attempts SET version = -7, step = -7 WHERE run_id = (SELECT id FROM runs WHERE run = 'spoilt')",
    "counts": "INSERT INTO counts SELECT id, CAST(x'ff' AS TEXT), -5 FROM runs",
    "a record": "INSERT INTO records SELECT id, 1, 30, x'ff' FROM runs WHERE run = 'spoilt'",
    "attempts that are to come": "INSERT INTO attempts SELECT id, attempt + 1, 0, 0 FROM runs WHERE run = 'spoilt'",
    "a record before the first": "INSERT INTO records SELECT id, -1, -9, x'ff' FROM runs WHERE run = 'spoilt'",
    "a project": "UPDATE runs SET project = CAST(x'ff' AS TEXT) WHERE run = 'spoilt'",
}


async def check(app: FastAPI, client: AsyncClient, damage: Callable[[], object]) -> None:
    """Nothing is a 500, a refusal says what to do, and all that is not spoilt goes on."""
    await put(client)
    last = (await train(client, 10))[-1]
    await put(client, run=SPOILT)
    spoilt = (await train(client, 10, 20, run=SPOILT))[-1]
    damage()
    with capture_logs() as logs:
        answers = {
            "again": await client.post(SPOILT + "/decisions", json=seen(20)),
            "next": await client.post(SPOILT + "/decisions", json=seen(30, spoilt)),
            "bare": await client.post(SPOILT + "/decisions", json=seen(40)),
            "get": await client.get(SPOILT),
            "put": await client.put(SPOILT, json=SPEC),
            "history": await client.get(SPOILT + "/decisions"),
            "csv": await client.get(SPOILT + "/decisions?format=csv"),
            "replay": await client.post(SPOILT + ":replay", json={"name": "paper"}),
            "backfill": await client.post(
                SPOILT + "/decisions:backfill",
                json={"entries": [{"observation": seen(25, spoilt), "decision": {**spoilt, "step": 25, "version": 3}}]},
            ),
            "stream": await _stream(client, SPOILT),
            "attempt": await client.post(SPOILT + "/attempts", json={}),
            "finish": await client.post(SPOILT + ":finish"),
        }
        page = await client.get(PROJECT)
        filtered = await client.get(PROJECT + "?status=active&limit=1")
        projects = await client.get("/v1/projects")
        scraped = await client.get("/metrics/runs")
        ready = await client.get("/readyz")
        store = app.state.context.store
        await collect(store, now=time.time(), retention_days=7, max_records=100, dry_run=False)
        gone = await client.delete(SPOILT)
    for name, answer in answers.items():
        assert answer.status_code < 500 or answer.status_code == 503, (name, answer.text)
        if answer.status_code == 503:
            assert len(answer.json()["detail"]) > 40
    assert gone.status_code in (204, 404, 503), gone.text
    assert page.status_code == filtered.status_code == projects.status_code == 200, page.text
    assert "resnet" in [run["run"] for run in page.json()["runs"]]
    assert "vision" in projects.json()["projects"]
    assert (scraped.status_code, 'run="resnet"' in scraped.text) == (200, True)
    assert ready.status_code == 200, ready.text
    assert not [line for line in logs if line["event"] in ("request failed", "the store cannot be used")], logs
    await train(client, 20, after=last)
    assert [record["step"] for record in await records(client)] == [10, 20]


async def _stream(client: AsyncClient, run: str) -> Any:
    """What a reader of the events gets before it is tired of waiting."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            return await client.get(run + "/events")
    return await client.get("/healthz")


@pytest.mark.parametrize("damage", IN_REDIS)
@pytest.mark.parametrize("app", ["redis"], indirect=True)
async def test_in_redis(app: FastAPI, client: AsyncClient, redis_server: RedisServer, damage: str) -> None:
    with redis_server.client() as redis:
        await check(app, client, lambda: IN_REDIS[damage](redis))


@pytest.mark.parametrize("damage", SQL)
@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
async def test_in_sqlite(app: FastAPI, client: AsyncClient, tmp_path: Path, damage: str) -> None:
    def spoil() -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / SQLITE_FILE, isolation_level=None)) as database:
            database.execute(SQL[damage])

    await check(app, client, spoil)


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
async def test_records(app: FastAPI, client: AsyncClient, tmp_path: Path) -> None:
    """Each is left out or is one; as the newest it leaves at most its own run out of the metrics."""
    metrics = RunMetrics(app.state.context.store, lambda run, now: False, cache_seconds=0)
    await put(client)
    await train(client, 10)
    with contextlib.closing(sqlite3.connect(tmp_path / SQLITE_FILE, isolation_level=None)) as database:
        for name, payload in PAYLOADS.items():
            database.execute("DELETE FROM records WHERE step > 10")
            database.execute("INSERT INTO records SELECT id, 1, 11, ? FROM runs", (payload,))
            database.execute("UPDATE runs SET updated_at = updated_at + 1e-3")
            page = await client.get(RUN + "/decisions")
            assert page.status_code == 200, (name, page.text)
            for record in page.json()["records"]:
                Record.model_validate(record)
            rows = await client.get(RUN + "/decisions?format=csv")
            assert len(rows.text.splitlines()) == 1 + len(page.json()["records"]), name
            assert (await client.post(RUN + ":replay", json={"name": "paper"})).status_code == 200
            assert b"dcao_live_runs" in await metrics.text(), name
