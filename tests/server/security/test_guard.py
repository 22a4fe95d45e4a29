"""Who is let in: every refusal is a problem document and an audit entry, and nothing is let in by mistake."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dcao_proto.problem import ProblemDetails
from dcao_server.security.audit_sinks import AUDIT_FILE, REFUSALS_FILE
from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, create_key
from dcao_server.security.needs import Need, need_of
from dcao_server.security.rate import RateLimit
from dcao_server.settings import Settings
from tests.server.asgi.small_app import DECISIONS, client_of, small_app

RUN = "/v1/projects/vision/runs/r1"
OBSERVATION = {"rho": 1.0}


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    file = KeyFile(tmp_path / "keys.jsonl")
    file.add(create_key({"other": Scope.READ})[1])
    return file


@pytest.fixture
async def client(file: KeyFile, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(data=tmp_path, api_keys_file=file.path, api_keys_refresh_seconds=1e-9)
    async with client_of(small_app(settings)) as client:
        yield client


def bearer(file: KeyFile, grants: dict[str, Scope], **options: Any) -> dict[str, str]:
    """The header of a new key in the file."""
    key, record = create_key(grants, **options)
    file.add(record)
    return {"authorization": f"Bearer {key}"}


def audit(folder: Path) -> list[dict[str, Any]]:
    files = [folder / name for name in (AUDIT_FILE, REFUSALS_FILE) if (folder / name).exists()]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def slug(response: httpx.Response) -> str:
    return ProblemDetails.model_validate_json(response.content).type.rsplit("/", 1)[1]


class TestRefusals:
    """Refused, said why, and noted."""

    async def test_without_a_key(self, client: httpx.AsyncClient) -> None:
        response = await client.post(DECISIONS, json=OBSERVATION)
        assert (response.status_code, slug(response)) == (401, "unauthenticated")
        assert response.headers["www-authenticate"] == 'Bearer realm="dcao"'
        assert "dcao-controller keys create" in response.text

    @pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "dcao_abcd_1234", "Bearer ", "Bearer x y"])
    async def test_with_something_that_is_no_key(self, client: httpx.AsyncClient, header: str) -> None:
        response = await client.post(DECISIONS, json=OBSERVATION, headers={"authorization": header})
        assert (response.status_code, slug(response)) == (401, "unauthenticated")

    async def test_unknown_wrong_and_expired_keys_get_the_same_answer(
        self, client: httpx.AsyncClient, file: KeyFile
    ) -> None:
        right = bearer(file, {"vision": Scope.WRITE})["authorization"]
        headers = [
            "Bearer dcao_abcdef012345_00112233",
            right[:-1] + ("0" if right[-1] != "0" else "1"),
            bearer(file, {"vision": Scope.WRITE}, expires_in=1, now=0)["authorization"],
        ]
        answers = [await client.post(DECISIONS, json=OBSERVATION, headers={"authorization": h}) for h in headers]
        assert {(a.status_code, a.json()["detail"]) for a in answers} == {(401, answers[0].json()["detail"])}

    async def test_with_too_narrow_a_scope(self, client: httpx.AsyncClient, file: KeyFile) -> None:
        headers = bearer(file, {"vision": Scope.READ})
        assert (await client.get(DECISIONS, headers=headers)).status_code == 200
        response = await client.post(DECISIONS, json=OBSERVATION, headers=headers)
        assert (response.status_code, slug(response)) == (403, "forbidden")
        assert "write on project vision" in response.json()["detail"]

    async def test_deleting_needs_admin(self, client: httpx.AsyncClient, file: KeyFile) -> None:
        assert (await client.delete(RUN, headers=bearer(file, {"vision": Scope.WRITE}))).status_code == 403
        assert (await client.delete(RUN, headers=bearer(file, {"vision": Scope.ADMIN}))).status_code == 204

    async def test_in_another_project(self, client: httpx.AsyncClient, file: KeyFile) -> None:
        headers = bearer(file, {"speech": Scope.ADMIN})
        response = await client.post(DECISIONS, json=OBSERVATION, headers=headers)
        assert (response.status_code, slug(response)) == (403, "forbidden")
        unknown = await client.post("/v1/projects/none/runs/x/decisions", json=OBSERVATION, headers=headers)
        assert unknown.json()["detail"] == response.json()["detail"].replace("vision", "none"), "says if it exists"

    @pytest.mark.parametrize("query", ["api_key={}", "x=1&token={}", "{}"])
    async def test_with_the_key_in_the_url(self, client: httpx.AsyncClient, file: KeyFile, query: str) -> None:
        key = bearer(file, {"vision": Scope.WRITE})["authorization"].removeprefix("Bearer ")
        response = await client.post(f"{DECISIONS}?{query.format(key)}", json=OBSERVATION)
        assert (response.status_code, slug(response)) == (401, "unauthenticated")
        assert "revoke" in response.json()["detail"]
        assert key not in response.text

    async def test_with_the_key_in_the_url_even_where_no_key_is_needed(self, tmp_path: Path) -> None:
        async with client_of(small_app(Settings(data=tmp_path))) as client:
            assert (await client.get("/healthz?key=dcao_abcd_12")).status_code == 401

    async def test_before_the_body_is_read(self, client: httpx.AsyncClient) -> None:
        async def body():  # type: ignore[no-untyped-def]
            raise AssertionError("the body was read")
            yield b""

        response = await client.post(DECISIONS, content=body(), headers={"content-type": "application/json"})
        assert response.status_code == 401

    async def test_when_a_key_asks_too_often(self, file: KeyFile, tmp_path: Path) -> None:
        settings = Settings(data=tmp_path, api_keys_file=file.path, rate_limit=0.5, rate_burst=3)
        headers, others = bearer(file, {"vision": Scope.READ}), bearer(file, {"vision": Scope.READ})
        async with client_of(small_app(settings)) as client:
            codes = [(await client.get(DECISIONS, headers=headers)).status_code for _ in range(4)]
            assert codes == [200, 200, 200, 429]
            response = await client.get(DECISIONS, headers=headers)
            assert slug(response) == "rate-limited"
            assert response.json()["retryable"]
            assert 1 <= int(response.headers["retry-after"]) <= 2
            assert (await client.get(DECISIONS, headers=others)).status_code == 200, "each key has its own bucket"


class TestAudit:
    async def test_every_kind_of_refusal_is_noted_without_the_key(self, file: KeyFile, tmp_path: Path) -> None:
        settings = Settings(data=tmp_path, api_keys_file=file.path, rate_limit=0.001, rate_burst=2)
        reader = bearer(file, {"vision": Scope.READ})
        writer = bearer(file, {"speech": Scope.WRITE})
        secrets = [h["authorization"].rsplit("_", 1)[1] for h in (reader, writer)]
        async with client_of(small_app(settings)) as client:
            await client.get(DECISIONS)
            await client.get(DECISIONS, headers={"authorization": "Basic x"})
            await client.get(DECISIONS, headers={"authorization": "Bearer dcao_abcdef_00"})
            await client.get(DECISIONS, headers={"authorization": reader["authorization"] + "0"})
            await client.get(f"{DECISIONS}?key={reader['authorization'][7:]}")
            await client.post(DECISIONS, json=OBSERVATION, headers=reader)
            await client.get(DECISIONS, headers=writer)
            for _ in range(3):
                await client.get(DECISIONS, headers=reader)
        events = audit(tmp_path)
        reasons = {event["reason"]: event for event in events}
        assert set(reasons) == {
            "no-key", "malformed", "unknown", "wrong-secret", "key-in-query", "scope", "project", "rate"
        }  # fmt: skip
        assert {event["event"] for event in events} == {"refused"}
        assert reasons["scope"]["key"] == reader["authorization"].split("_")[1]
        assert reasons["project"]["status"] == 403
        assert all(event["client"] == "127.0.0.1" and event["request"] for event in events)
        assert not any(secret in str(events) for secret in secrets)

    async def test_equal_refusals_become_one_entry_with_a_count(self, file: KeyFile, tmp_path: Path) -> None:
        async with client_of(small_app(Settings(data=tmp_path, api_keys_file=file.path))) as client:
            for number in range(30):
                await client.get(f"/v1/projects/p{number}/runs")
        events = audit(tmp_path)
        assert sum(event["count"] for event in events) == 30
        assert len(events) <= 3

    async def test_changes_are_noted_with_their_author_and_decisions_are_not(
        self, file: KeyFile, tmp_path: Path
    ) -> None:
        settings = Settings(data=tmp_path, api_keys_file=file.path)
        admin = bearer(file, {"vision": Scope.ADMIN})
        async with client_of(small_app(settings)) as client:
            await client.put(RUN, json={}, headers=admin)
            await client.post(DECISIONS, json=OBSERVATION, headers=admin)
            await client.get(DECISIONS, headers=admin)
            await client.delete(RUN, headers=admin)
        events = audit(tmp_path)
        assert [(e["event"], e["method"], e["path"]) for e in events] == [
            ("changed", "PUT", RUN),
            ("changed", "DELETE", RUN),
        ]
        assert {event["key"] for event in events} == {admin["authorization"].split("_")[1]}


class TestReload:
    async def test_keys_come_and_go_without_a_restart(self, client: httpx.AsyncClient, file: KeyFile) -> None:
        headers = bearer(file, {"vision": Scope.WRITE})
        assert (await client.post(DECISIONS, json=OBSERVATION, headers=headers)).status_code == 200
        file.remove(headers["authorization"].split("_")[1])
        assert (await client.post(DECISIONS, json=OBSERVATION, headers=headers)).status_code == 401

    async def test_a_broken_file_leaves_the_keys_in_force(self, client: httpx.AsyncClient, file: KeyFile) -> None:
        headers = bearer(file, {"vision": Scope.WRITE})
        assert (await client.get(DECISIONS, headers=headers)).status_code == 200
        file.path.write_text("{ half a line")
        assert (await client.get(DECISIONS, headers=headers)).status_code == 200
        file.path.unlink()
        assert (await client.get(DECISIONS, headers=headers)).status_code == 200


class TestNeeds:
    """The table of scopes, path by path."""

    @pytest.mark.parametrize(
        ("method", "path", "need"),
        [
            ("GET", "/v1/projects/p/runs", Need(Scope.READ, "p")),
            ("PUT", "/v1/projects/p/runs/r", Need(Scope.WRITE, "p")),
            ("DELETE", "/v1/projects/p/runs/r", Need(Scope.ADMIN, "p")),
            ("POST", "/v1/projects/p/runs/r:finish", Need(Scope.WRITE, "p")),
            ("POST", "/v1/projects/p/runs/r/attempts", Need(Scope.WRITE, "p")),
            ("POST", "/v1/projects/p/runs/r/decisions", Need(Scope.WRITE, "p")),
            ("POST", "/v1/projects/p/runs/r/decisions:backfill", Need(Scope.WRITE, "p")),
            ("POST", "/v1/projects/p/runs/r:replay", Need(Scope.READ, "p")),
            ("GET", "/v1/projects/p/runs/r/events", Need(Scope.READ, "p")),
            ("HEAD", "/v1/projects/p/runs/r", Need(Scope.READ, "p")),
            ("PATCH", "/v1/projects/p/runs/r", Need(Scope.WRITE, "p")),
            ("BREW", "/v1/projects/p/runs/r", Need(Scope.WRITE, "p")),
            ("POST", "/v1/decide", Need(Scope.READ, None)),
            ("GET", "/v1/policies", Need(Scope.READ, None)),
            ("GET", "/v1", Need(Scope.READ, None)),
            ("GET", "/v1/projects", Need(Scope.READ, None)),
            ("GET", "/healthz", None),
            ("GET", "/readyz", None),
            ("GET", "/metrics", Need(Scope.READ, "*")),
            ("GET", "/metrics/runs", Need(Scope.READ, "*")),
            ("GET", "/openapi.json", None),
            ("GET", "/", None),
        ],
    )
    def test_needs(self, method: str, path: str, need: Need | None) -> None:
        assert need_of(method, path) == need

    def test_metrics_can_be_opened(self) -> None:
        assert need_of("GET", "/metrics/runs", protect_metrics=False) is None
        assert need_of("GET", "/v1/policies", protect_metrics=False) == Need(Scope.READ, None)

    async def test_metrics_need_read_on_every_project(self, file: KeyFile, tmp_path: Path) -> None:
        settings = Settings(data=tmp_path, api_keys_file=file.path)
        one, every = bearer(file, {"vision": Scope.ADMIN}), bearer(file, {"*": Scope.READ})
        async with client_of(small_app(settings)) as client:
            assert (await client.get("/metrics/runs")).status_code == 401
            assert (await client.get("/metrics/runs", headers=one)).status_code == 403
            assert (await client.get("/metrics/runs", headers=every)).status_code == 200

    async def test_what_is_not_the_api_needs_no_key(self, client: httpx.AsyncClient) -> None:
        for path in ("/healthz", "/"):
            assert (await client.get(path)).status_code == 200

    @pytest.mark.parametrize(
        "path", ["/V1/policies", "//v1/policies", "/v1%2fpolicies", "/x/../v1/policies", "/.//v1/policies"]
    )
    async def test_no_other_spelling_of_a_path_reaches_a_route(self, client: httpx.AsyncClient, path: str) -> None:
        response = await client.request("GET", httpx.URL("http://controller").copy_with(raw_path=path.encode()))
        assert response.status_code in (401, 404)


def test_a_bucket_fills_at_its_rate_up_to_its_burst() -> None:
    now = 0.0
    limit = RateLimit(rate=2, burst=3, clock=lambda: now)
    assert [limit.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.wait("b") == 0
    now = 0.25
    assert limit.wait("a") == pytest.approx(0.25)
    now = 0.5
    assert limit.wait("a") == 0
    now = 100.0
    assert [limit.wait("a") == 0 for _ in range(4)] == [True, True, True, False]


def test_a_rate_of_nought_never_limits() -> None:
    limit = RateLimit(rate=0, burst=1)
    assert not any(limit.wait("a") for _ in range(10))
