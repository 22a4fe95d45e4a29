"""`dcao-controller`: what it prints, what it refuses, and how it says so."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dcao_server.main import main
from dcao_server.security.audit_sinks import AUDIT_FILE
from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, digest_of
from dcao_server.settings import Settings
from dcao_server.store import create_store


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder for data, and a terminal of known width."""
    monkeypatch.setenv("DCAO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


def test_a_key_is_printed_once_and_only_its_hash_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.jsonl"
    assert (
        main(["keys", "create", "--file", str(file), "--project", "vision", "--note", "cluster", "--days", "30"]) == 0
    )
    out, err = capsys.readouterr()
    assert re.fullmatch(r"dcao_[0-9a-f]{12}_[0-9a-f]{48}\n", out), "nothing but the key, so that a script can take it"
    assert "DCAO_API_KEYS_FILE" in err
    (record,) = (KeyFile(file).load_now() or {}).values()
    assert record.digest == digest_of(out.strip().encode())
    assert record.grants == {"vision": Scope.WRITE}
    assert record.expires == pytest.approx(record.created + 30 * 86_400)
    assert out.strip().split("_")[2] not in file.read_text()


def test_keys_are_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "keys.jsonl")
    ids = []
    for scope in ("read", "admin"):
        main(["keys", "create", "--file", file, "--project", "*", "--project", "speech", "--scope", scope])
        ids.append(capsys.readouterr().out.split("_")[1])
    assert main(["keys", "list", "--file", file]) == 0
    listed = capsys.readouterr().out
    assert all(key_id in listed for key_id in ids)
    assert "admin *, admin speech" in listed
    assert main(["keys", "revoke", ids[0], "--file", file]) == 0
    assert main(["keys", "revoke", ids[0], "--file", file]) == 2
    assert ids[0] in capsys.readouterr().err
    assert set(KeyFile(Path(file)).load_now() or {}) == {ids[1]}


def test_making_and_revoking_keys_is_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "keys.jsonl")
    main(["keys", "create", "--file", file, "--project", "vision"])
    key_id = capsys.readouterr().out.split("_")[1]
    main(["keys", "revoke", key_id, "--file", file])
    events = [json.loads(line) for line in (tmp_path / "data" / AUDIT_FILE).read_text().splitlines()]
    assert [(e["event"], e["reason"], e["key"]) for e in events] == [
        ("key", "created", key_id),
        ("key", "revoked", key_id),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["keys", "create", "--project", "a/b"], "letters, digits"),
        (["keys", "create", "--project", "a", "--scope", "owner"], "read, write or admin"),
        (["keys", "create", "--project", "a", "--days", "-1"], "above 0"),
        (["keys", "create", "--project", "a", "--redis"], "DCAO_REDIS_URL"),
        (["keys", "create", "--project", "a", "--redis", "--file", "x"], "got both"),
        (["keys", "list", "--file", "/nowhere/keys"], "dcao-controller keys create"),
        (["keys", "create"], "--project"),
        (["serve", "--port", "99999"], "DCAO_PORT"),
        (["serve", "--host", "0.0.0.0"], "dcao-controller keys create --file"),
        (["fly"], "fly"),
    ],
)
def test_what_cannot_be_done_ends_with_2_and_says_what_to_do(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in re.sub(r"\s+", " ", capsys.readouterr().err)


def test_the_document_is_that_of_the_application(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["openapi"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["openapi"] == "3.1.0"
    assert "/v1/projects/{project}/runs/{run}/decisions" in printed["paths"]
    assert main(["openapi", "--output", str(tmp_path / "openapi.json")]) == 0
    assert json.loads((tmp_path / "openapi.json").read_text()) == printed


def test_everything_under_v1_is_documented_to_need_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    main(["openapi"])
    document = json.loads(capsys.readouterr().out)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert (operation.get("security") == [{"apiKey": []}]) == path.startswith("/v1")


def test_gc_counts_what_it_would_remove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def make() -> None:
        store = create_store(Settings(data=tmp_path / "data"))
        await store.open()
        await store.close()

    (tmp_path / "data").mkdir()
    asyncio.run(make())
    assert main(["gc", "--dry-run"]) == 0
    assert "0 runs, 0 records and 0 index entries would be removed" in capsys.readouterr().out


def test_making_a_key_imports_no_web_framework() -> None:
    """It answers at once, in an image's entry script too."""
    code = (
        "import sys, dcao_server.main; sys.exit(any(m in sys.modules for m in ('fastapi', 'uvicorn', 'opentelemetry')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("arguments", [["gc"], ["gc", "--dry-run"]])
def test_gc_in_a_wrong_folder_makes_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the folder nor a database in it; it says which folder it looked into."""
    monkeypatch.setenv("DCAO_DATA", str(tmp_path / "elsewhere"))
    assert main(arguments) == 2
    assert f"expected a history in {tmp_path}/elsewhere/history.sqlite3, got none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_no_keys_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table says neither where it looked nor what to do."""
    file = tmp_path / "keys.jsonl"
    main(["keys", "create", "--file", str(file), "--project", "vision"])
    main(["keys", "revoke", capsys.readouterr().out.split("_")[1], "--file", str(file)])
    capsys.readouterr()
    assert main(["keys", "list", "--file", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"no keys in {file}; make one with: dcao-controller keys create --project NAME\n"


def test_a_person_at_a_terminal_is_greeted_in_one_line(tmp_path: Path) -> None:
    """With the address; a machine gets one JSON object (every other test reads that)."""
    master, slave = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DCAO_")}
    environment |= {"DCAO_PORT": "0", "DCAO_DATA": str(tmp_path), "DCAO_DRAIN_SECONDS": "0"}
    command = [sys.executable, "-m", "dcao_server.main"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        seen = ""
        while "\n" not in seen:
            seen += os.read(master, 4096).decode()
        process.terminate()
        process.wait(30)
    os.close(master)
    greeting = (
        r"DCAO is ready: its runs are shown at (http://127\.0\.0\.1:\d+), workers set DCAO_URL=\1; Ctrl-C stops it\."
    )
    assert re.match(rf"{greeting}\r\n", seen)
