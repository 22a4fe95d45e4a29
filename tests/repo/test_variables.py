"""A mistyped variable is named, and nobody else's is."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dcao_client import settings
from dcao_client.once import Once
from dcao_client.settings import ClientSettings, HookSettings
from dcao_proto.variables import CLIENT, CONTROLLER, PREFIX, mistyped
from dcao_server.settings import SECRETS, Settings

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def test_the_lists_are_the_settings_of_either_side():
    """A new setting of either side goes into `dcao_proto/variables.py`."""
    assert {name.lower() for name in CONTROLLER} == {*Settings.model_fields, *(f"{name}_file" for name in SECRETS)}
    assert {name.lower() for name in CLIENT} == {*ClientSettings.model_fields, *HookSettings.model_fields}


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("DCAO_ULR", "DCAO_URL"), ("DCAO_ENABLE", "DCAO_ENABLED"), ("DCAO_APIKEY", "DCAO_API_KEY"),
        ("DCAO_RETENTION_DAY", "DCAO_RETENTION_DAYS"), ("DCAO_JOURNALDIR", "DCAO_JOURNAL_DIR"),
        ("dcao_redis_uri", "DCAO_REDIS_URL"), ("DCAO_TRUSTED", "DCAO_TRUST"),
    ],
)  # fmt: skip
def test_what_was_meant(wrong, meant):
    assert mistyped([wrong]) == {wrong: meant}


def test_variables_of_the_repository_itself_are_no_mistakes():
    """Those of compose files, scripts and images are close to no setting."""
    named = set[str]()
    for folder in ("deploy", "scripts", "docs", "experiments", "docker-compose.yml"):
        files = [ROOT / folder] if (ROOT / folder).is_file() else (ROOT / folder).rglob("*")
        for file in files:
            if file.is_file() and file.suffix not in (".png", ".pyc"):
                named.update(re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]\b", file.read_text(encoding="utf-8")))
    assert len(named) > 30
    assert mistyped(named) == {}


def test_the_client_says_it_once(monkeypatch, caplog):
    """Wherever settings are read: by a session, by `attach`, by a command."""
    monkeypatch.setenv("DCAO_ULR", "http://localhost:8000")
    monkeypatch.setattr(settings, "_once", Once())
    with caplog.at_level(logging.WARNING, logger="dcao"):
        ClientSettings.read()
        HookSettings.read()
    assert [record.getMessage() for record in caplog.records] == [
        "DCAO_ULR is no setting and was ignored; DCAO_URL is one"
    ]


def test_both_commands_say_it(tmp_path):
    """On standard error."""
    environment = {**os.environ, "DCAO_ULR": "x", "DCAO_RETENTION_DAY": "3", "DCAO_URL": "http://127.0.0.1:9"}
    for command in (("dcao", "runs"), ("dcao-controller", "keys", "list")):
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert "DCAO_ULR is no setting and was ignored; DCAO_URL is one" in done.stderr
        assert "DCAO_RETENTION_DAY is no setting and was ignored; DCAO_RETENTION_DAYS is one" in done.stderr


def test_a_home_folder_is_one_in_every_path(monkeypatch, tmp_path):
    """`~` is for a shell to read, and an env file or a compose file is read by none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    client = ClientSettings.read(journal_dir="~/journal", api_key_file="~/key", ca_file="~/ca")
    assert {client.journal_dir, client.api_key_file, client.ca_file} == {tmp_path / n for n in ("journal", "key", "ca")}
    controller = Settings(data=Path("~/data"), api_keys_file=Path("~/keys"), redis_ca_file=Path("~/ca"))
    assert (controller.data, controller.api_keys_file) == (tmp_path / "data", tmp_path / "keys")
    (tmp_path / "url").write_text("redis://127.0.0.1:6379/0")
    monkeypatch.setenv("DCAO_REDIS_URL_FILE", "~/url")
    assert Settings().redis_url is not None
