"""deploy/secrets.sh makes what the compose file mounts, once, for nobody else to read."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcao_server.security.key_sources import parse_lines
from dcao_server.security.keys import Scope, digest_of, id_of

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path) -> str:
    """What the script prints."""
    command = ["sh", str(ROOT / "deploy/secrets.sh"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run(tmp_path / "secrets")
    return tmp_path / "secrets"


def test_it_makes_every_secret_that_the_compose_files_name(folder: Path) -> None:
    named: set[str] = set()
    for file in ("docker-compose.yml", "docker-compose.override.yml"):
        compose: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())
        named |= {secret["file"].rsplit("/", 1)[1] for secret in compose["secrets"].values()}
    assert {path.name for path in folder.iterdir()} == named


def test_containers_can_read_a_secret_and_other_users_cannot_reach_it(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}


def test_the_controller_knows_the_key_it_makes(folder: Path) -> None:
    key = (folder / "api_key").read_bytes()
    (record,) = parse_lines((folder / "api_keys").read_text(), "api_keys").values()
    assert record.id == id_of(key)
    assert record.digest == digest_of(key)
    assert record.scope_in("any") == Scope.WRITE
    assert len(key.split(b"_")[2]) == 48


def test_passwords_are_random_and_printed_nowhere(tmp_path: Path) -> None:
    printed = run(tmp_path / "a") + run(tmp_path / "b")
    for name in ("redis_password", "grafana_admin_password", "api_key"):
        first, second = ((tmp_path / side / name).read_text() for side in ("a", "b"))
        assert first != second
        assert len(first) >= 32
        assert first not in printed
        assert second not in printed


def test_what_is_there_stays(folder: Path) -> None:
    before = {path.name: path.read_text() for path in folder.iterdir()}
    (folder / "redis_password").unlink()
    assert run(folder) == f"made {folder}/redis_password\n"
    after = {path.name: path.read_text() for path in folder.iterdir()}
    assert after.pop("redis_password") != before.pop("redis_password")
    assert after == before
