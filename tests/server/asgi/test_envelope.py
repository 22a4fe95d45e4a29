"""Request IDs, headers of every answer, the access log, and what a draining replica says."""

from pathlib import Path

import pytest
import structlog

from dcao_server.asgi.context import trace_context
from dcao_server.logging import without_secrets
from dcao_server.settings import Settings
from tests.server.asgi.conftest import Lines
from tests.server.asgi.small_app import DECISIONS, client_of, small_app


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


async def test_a_clients_request_id_is_kept_in_the_answer_and_in_the_task(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        response = await client.post(DECISIONS, json={"rho": 1}, headers={"x-request-id": "job-7.a"})
        assert response.headers["x-request-id"] == "job-7.a"
        assert response.json()["request"] == "job-7.a"


@pytest.mark.parametrize("bad", ["", "a b", "x" * 65, "{evil}", 'say "hi"', "naïve"])
async def test_a_request_id_that_could_forge_a_log_line_is_replaced(settings: Settings, bad: str) -> None:
    async with client_of(small_app(settings)) as client:
        response = await client.get("/healthz", headers={"x-request-id": bad.encode()})
        assert response.headers["x-request-id"] != bad
        assert len(response.headers["x-request-id"]) > 12


async def test_every_request_without_one_gets_an_id_of_its_own(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        ids = {(await client.get("/healthz")).headers["x-request-id"] for _ in range(50)}
        assert len(ids) == 50


async def test_every_answer_forbids_sniffing_and_storing(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        for path in ("/healthz", "/nope", "/boom", "/"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"


async def test_a_page_may_load_only_its_own_files_and_not_be_framed(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        headers = (await client.get("/")).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert "content-security-policy" not in (await client.get("/healthz")).headers


async def test_a_draining_replica_asks_its_clients_to_leave(settings: Settings) -> None:
    app = small_app(settings)
    async with client_of(app) as client:
        assert "connection" not in (await client.get("/healthz")).headers
        app.state.lifecycle.drain()
        response = await client.get("/healthz")
        assert (response.status_code, response.headers["connection"]) == (200, "close")


@pytest.mark.parametrize(("wanted", "paths"), [("off", []), ("errors", ["/nope"]), ("all", ["/healthz", "/nope"])])
async def test_the_access_log_has_what_was_asked_for(
    tmp_path: Path, wanted: str, paths: list[str], logs: Lines
) -> None:
    app = small_app(Settings.model_validate({"data": tmp_path, "access_log": wanted}))
    async with client_of(app) as client:
        await client.get("/healthz?q=private")
        await client.get("/nope")
    lines = logs("dcao.access")
    assert [line["path"] for line in lines] == paths
    assert "private" not in str(lines)


async def test_a_traceparent_is_in_the_access_log(settings: Settings, logs: Lines) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with client_of(small_app(settings)) as client:
        await client.get("/nope", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    (line,) = logs("dcao.access")
    assert line["trace_id"] == trace


TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"00-" + TRACE + b"-" + SPAN,
        b"00-" + TRACE + b"-" + SPAN + b"-01-more",
        b"ff-" + TRACE + b"-" + SPAN + b"-01",
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        b"00-" + TRACE.upper() + b"-" + SPAN + b"-01",
        b"00-" + TRACE[:-1] + b"-" + SPAN + b"-01",
    ],
)
def test_an_invalid_traceparent_is_ignored(header: bytes | None) -> None:
    assert trace_context(header) is None


def test_a_valid_traceparent_is_read() -> None:
    context = trace_context(b"00-" + TRACE + b"-" + SPAN + b"-01")
    assert context == (TRACE.decode(), SPAN.decode(), True)
    later = trace_context(b"cc-" + TRACE + b"-" + SPAN + b"-00-what-comes-later")
    assert later is not None
    assert not later.sampled


def test_log_lines_are_json_and_hide_secrets(logs: Lines) -> None:
    log = structlog.get_logger("t")
    log.error("cannot reach redis://user:hunter2@host", api_key="dcao_abcd_12", other="dcao_abcd_ff00")
    (line,) = logs("t")
    assert line["event"] == "cannot reach redis://user:…@host"
    assert (line["api_key"], line["other"], line["level"]) == ("…", "dcao_abcd_…", "error")


def test_an_exceptions_text_is_cleaned_too(logs: Lines) -> None:
    try:
        raise ValueError("rediss://:hunter2@host refused dcao_abcd_0011")
    except ValueError as error:
        structlog.get_logger("t").error("failed", exc_info=error)
    text = str(logs("t"))
    assert "hunter2" not in text
    assert "0011" not in text
    assert "ValueError" in text


def test_cleaning_leaves_other_text_alone() -> None:
    assert without_secrets("GET /v1/projects/dcao_x/runs http://host:80/a@b") == (
        "GET /v1/projects/dcao_x/runs http://host:80/a@b"
    )
