"""Settings: the environment, secrets by file, and a page that says what the code says."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from dcao_server import healthcheck
from dcao_server.security import check_exposure
from dcao_server.settings import Settings, SettingsError, settings_table

DOCS = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_page_has_the_settings_of_the_code() -> None:
    """`dcao-controller settings` prints the table anew."""
    assert settings_table() in DOCS.read_text()


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_secret_can_be_named_by_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    monkeypatch.setenv("DCAO_REDIS_PASSWORD_FILE", str(secret))
    password = Settings().redis_password
    assert password is not None
    assert password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(Settings())


def test_a_secret_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DCAO_REDIS_PASSWORD", "a")
    monkeypatch.setenv("DCAO_REDIS_PASSWORD_FILE", str(tmp_path / "b"))
    with pytest.raises(SettingsError, match="got both; unset one"):
        Settings()


def test_a_secret_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DCAO_REDIS_URL_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"DCAO_REDIS_URL_FILE.*No such file"):
        Settings()


def test_arguments_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCAO_PORT", "9000")
    assert Settings().port == 9000
    assert Settings(port=9001).port == 9001


@pytest.mark.parametrize(
    ("name", "value"), [("port", 70000), ("rate_limit", -1), ("log_level", "loud"), ("stale_factor", 0)]
)
def test_values_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})


def test_the_health_check_knows_the_port_that_is_served_by_default() -> None:
    assert Settings.model_fields["port"].default == healthcheck.DEFAULT_PORT


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_keys(host: str) -> None:
    check_exposure(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_any_other_address_needs_keys_and_the_refusal_says_how_to_make_one(host: str) -> None:
    with pytest.raises(SettingsError, match=r"dcao-controller keys create --file.*\n.*DCAO_API_KEYS_FILE"):
        check_exposure(Settings(host=host))


def test_keys_that_cannot_be_read_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.jsonl"):
        check_exposure(Settings(api_keys_file=tmp_path / "none.jsonl"))


def test_keys_in_redis_need_a_redis() -> None:
    with pytest.raises(SettingsError, match="DCAO_REDIS_URL"):
        check_exposure(Settings(host="0.0.0.0", api_keys_in_redis=True))
