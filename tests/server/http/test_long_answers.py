"""A key that is revoked ends what it had begun; refusals displace no change; a key in a URL is noticed in any dress."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import ClientDisconnect

from dcao_server.history.rights import Rights, while_allowed
from dcao_server.responses import PAGE_BYTES
from dcao_server.security.audit import MAX_WAITING, AuditEvent, AuditTrail
from dcao_server.security.audit_sinks import AUDIT_FILE, REFUSALS_FILE, AuditFile
from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, create_key
from tests.server.http.asking import SPEC, seen
from tests.server.operation.process import running


async def test_an_open_event_stream_ends_soon_after_its_key_is_revoked(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys")
    (reader, record), (writer, other) = create_key({"*": Scope.READ}), create_key({"*": Scope.WRITE})
    file.add(record)
    file.add(other)
    environ = {"DCAO_API_KEYS_FILE": str(file.path), "DCAO_API_KEYS_REFRESH_SECONDS": "0.2"}
    with running(tmp_path / "log", "-m", "dcao_server.main", "serve", **environ) as server:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            run = "/v1/projects/p/runs/r"
            write = {"authorization": f"Bearer {writer}"}
            assert (await client.put(run, json=SPEC, headers=write)).status_code == 201
            await client.post(run + "/decisions", json=seen(1), headers=write)
            headers = {"authorization": f"Bearer {reader}"}
            async with client.stream("GET", run + "/events", headers=headers, timeout=30) as response:
                lines = response.aiter_lines()
                assert (await anext(lines)).startswith("retry")
                assert file.remove(record.id)
                async with asyncio.timeout(5):
                    rest = [line async for line in lines]
            assert "event: bye" in rest
            assert any("API key" in line for line in rest)
            assert (await client.get(run, headers=headers)).status_code == 401


async def test_a_download_breaks_off_when_its_key_is_revoked() -> None:
    answers = iter([True, False])

    async def still() -> bool:
        return next(answers)

    async def content() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"row\n"

    pieces = while_allowed(content(), Rights(still, 0.0))
    assert await anext(pieces) == b"row\n"
    with pytest.raises(ClientDisconnect):
        await anext(pieces)


def made_up(index: int) -> AuditEvent:
    return AuditEvent(event="refused", reason="no-key", client=f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}")


async def test_refusals_of_made_up_addresses_displace_no_change(tmp_path: Path) -> None:
    trail = AuditTrail(AuditFile(tmp_path))
    for index in range(3 * MAX_WAITING):
        trail.note(made_up(index))
    trail.note(AuditEvent(event="changed", path="/v1/projects/p/runs/r", method="DELETE"))
    await trail.flush()
    changes = [json.loads(line) for line in (tmp_path / AUDIT_FILE).read_text().splitlines()]
    assert [event["event"] for event in changes] == ["changed"]
    refusals = [json.loads(line) for line in (tmp_path / REFUSALS_FILE).read_text().splitlines()]
    assert (len(refusals), refusals[-1]["event"], refusals[-1]["count"]) == (
        MAX_WAITING + 1,
        "dropped",
        2 * MAX_WAITING,
    )


async def test_a_full_disk_under_the_audit_trail_is_one_line_of_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / AUDIT_FILE).symlink_to("/dev/full")
    trail = AuditTrail(AuditFile(tmp_path))
    trail.note(AuditEvent(event="changed"))
    await trail.flush()
    printed = capfd.readouterr()
    said = printed.err + printed.out + caplog.text  # to which of them the log goes is what other tests left behind
    assert "Traceback" not in said
    assert "audit events not written" in said


@pytest.mark.parametrize("target", [
    "/v1/projects?key=dcao%5Fabcdef_00", "/v1/projects?key=%64cao_abcdef_00", "/v1/projects?key=dcao%255Fabcdef_00",
    "/v1/projects?key=%2564%2563%2561%256f%255fabcdef_00", "/v1/projects/dcao_0123456789ab_" + "0123456789abcdef" * 3,
    "/v1/projects/%64cao%5f0123456789ab%5f" + "0123456789abcdef" * 3,
])  # fmt: skip
async def test_a_key_in_a_url_is_noticed_in_any_dress(client: httpx.AsyncClient, target: str) -> None:
    response = await client.get(target)
    assert response.status_code == 401
    assert "revoke" in response.json()["detail"]


async def test_a_run_may_have_any_name_all_the_same(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/projects/p/runs/dcao_resnet_2", json=SPEC)).status_code == 201


async def test_a_page_has_so_many_bytes_and_its_cursor_leads_on(client: httpx.AsyncClient) -> None:
    """However many elements were asked for: of records and of runs that are as large as a client can make them."""
    wide = SPEC | {"policy": {"name": "constant", "params": {}}, "labels": {f"l{i}": "x" * 128 for i in range(32)}}
    groups = [{"name": f"group-{i}", "slope": 1 / 7, "curvature": 1 / 9} for i in range(256)]
    for index in range(PAGE_BYTES // 5000):
        await client.put(f"/v1/projects/p/runs/r{index}", json=wide)
    for index in range(PAGE_BYTES // 15_000):
        answer = await client.post("/v1/projects/p/runs/r0/decisions", json=seen(index, groups=groups))
        assert answer.status_code == 200, answer.text
    for path, name, after in (
        ("/v1/projects/p/runs", "runs", "cursor"),
        ("/v1/projects/p/runs/r0/decisions", "records", "after"),
    ):
        found, sizes, query = 0, [], {"limit": "1000"}
        while True:
            page = await client.get(path, params=query)
            found += len(page.json()[name])
            sizes.append(len(page.content))
            if "next_cursor" not in page.json():
                break
            query[after] = page.json()["next_cursor"]
        assert len(sizes) > 1, name
        assert max(sizes) < 2 * PAGE_BYTES
        assert found == (PAGE_BYTES // 5000 if name == "runs" else PAGE_BYTES // 15_000)
