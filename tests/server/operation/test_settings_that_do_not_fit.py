"""A setting that does not fit ends the start with one line, before anything runs, and no secret is in it."""

import codecs
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dcao_server.main import main
from dcao_server.redis_url import database_of, split_redis_url
from dcao_server.settings import Settings, SettingsError
from tests.server.operation.process import REPOSITORY

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A free port, should a test get that far by mistake."""
    monkeypatch.setenv("DCAO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DCAO_PORT", "0")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a start that is refused says: one line."""
    assert main(list(arguments) or ["serve"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert SECRET not in said
    assert "expected" in said
    return said


URLS = {
    "localhost:6379": "redis://HOST:PORT",
    "http://localhost:6379": "rediss://",
    "": "redis://HOST:PORT",
    f"{SECRET}": "redis://HOST:PORT",
    f"{SECRET}@localhost:6379/0": "redis://HOST:PORT",
    f"redis://:{SECRET}/ab@localhost:6379/0": "%2F",
    f"redis://:{SECRET}#ab@localhost:6379/0": "%23",
    f"redis://:{SECRET}?ab@localhost:6379/0": "%3F",
    f"redis://:{SECRET}[ab@localhost:6379/0": "%5B",
    f"redis://:a%{SECRET}@localhost": "%25",
    f"redis://:{SECRET} ab@localhost:6379/0": "spaces",
    f"redis://:{SECRET}@localhost:6379/0\n": "line ends",
    f"redis://localhost:{SECRET}": "port from 1 to 65535",
    "redis://localhost:0": "port from 1 to 65535",
    "redis://localhost:65536": "port from 1 to 65535",
    "redis://": "HOST:PORT",
    "redis://a:1,b:2": "redis+cluster",
    "redis://localhost/x": "number of a database",
    "redis://localhost/-1": "number of a database",
    "redis://localhost/1/2": "number of a database",
    "redis://localhost?db=x": "number of a database",
    "redis://localhost?db=": "with a value",
    "redis://localhost?db=1&db=1": "once",
    "redis://localhost/1?db=3": "one database, got two",
    "redis://localhost?socket_timeout=5": "DCAO_REDIS_",
    f"redis://localhost?password={SECRET}": "another word",
    "redis://localhost?ssl_cert_reqs=none": "certificates",
    f"redis://localhost?{SECRET}": "NAME=VALUE",
    "redis+cluster://localhost:7000/3": "database 0",
    "redis+cluster://localhost:7000?db=3": "database 0",
    "redis+sentinel://localhost:26379": "SERVICE",
    "redis+sentinel://localhost:26379/a/3": "SERVICE",
    "unix://var/run/redis.sock": "three slashes",
    "unix://": "no path",
}


@pytest.mark.parametrize("url", URLS)
def test_a_redis_url_that_does_not_fit_is_one_line_without_a_part_of_it(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCAO_REDIS_URL", url)
    said = refused(capsys)
    assert said.startswith("dcao-controller: DCAO_REDIS_URL: expected ")
    assert URLS[url] in said


@pytest.mark.parametrize(
    ("url", "number"),
    [
        ("redis://localhost", 0),
        ("redis://localhost:6379/3", 3),
        ("redis://localhost?db=3", 3),
        ("redis://localhost/3?db=3", 3),
        ("rediss://user:p%40ss@localhost:6380/3", 3),
        ("redis://:p@ss@[::1]:6379/1", 1),
        ("unix:///run/redis.sock?db=3", 3),
        ("unix:///run/redis@1.sock", 0),
        ("redis+cluster://a:1,b:2", 0),
        ("redis+cluster://a:1,b:2/0", 0),
        ("redis+sentinel://a:1,b:2/service?db=3&sentinel_password=x", 3),
    ],
)
def test_a_database_is_taken_from_wherever_it_is_named(url: str, number: int) -> None:
    assert database_of(split_redis_url(url)) == number


@pytest.mark.parametrize("command", ["serve", "gc", "keys"])
def test_every_command_says_it_in_the_same_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCAO_REDIS_URL", "localhost:6379")
    words = {"keys": ["keys", "list", "--redis"]}.get(command, [command])
    assert "redis://HOST:PORT" in refused(capsys, *words)


def test_the_document_of_the_api_does_not_depend_on_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCAO_REDIS_URL", "localhost:6379")
    monkeypatch.setenv("DCAO_HOST", "0.0.0.0")
    assert main(["openapi"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DCAO_PORT", "http", "integer"),
        ("DCAO_PORT", "70000", "65535"),
        ("DCAO_METRICS_PORT", "x", "integer"),
        ("DCAO_HOST", "http://0.0.0.0", "address or a host name"),
        ("DCAO_HOST", "", "address or a host name"),
        ("DCAO_HOST", "127.0.0.1/8", "address or a host name"),
        ("DCAO_LOG_LEVEL", "loud", "'debug'"),
        ("DCAO_RATE_LIMIT", "inf", "finite"),
        ("DCAO_STALE_FACTOR", "nan", "finite"),
        ("DCAO_FORWARDED_ALLOW_IPS", "proxy.internal", "networks"),
        ("DCAO_DATA", "~nobody-of-this-name/x", "home of a user"),
        ("DCAO_DATA", "/proc/version", "folder"),
        ("DCAO_API_KEYS_FILE", "/nowhere", "keys create"),
    ],
)
def test_any_setting_that_does_not_fit_is_one_line_that_names_it(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    said = refused(capsys)
    assert name in said
    assert expected in said


def test_two_settings_that_do_not_fit_are_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCAO_PORT", "x")
    monkeypatch.setenv("DCAO_REDIS_URL", f"redis://:{SECRET}#@h")
    assert main(["serve"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "DCAO_PORT: expected" in first
    assert "DCAO_REDIS_URL: expected" in second
    assert SECRET not in first + second


def test_an_error_of_pydantic_holds_no_secret() -> None:
    """Whoever prints it: an application that is made by import has no command line around it."""
    with pytest.raises(ValueError, match="redis_url") as caught:
        Settings.model_validate({"redis_url": f"redis://:{SECRET}/x@h"})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "scheme", "text", "expected"),
    [
        ("DCAO_REDIS_CA_FILE", "rediss", None, "readable file"),
        ("DCAO_REDIS_CA_FILE", "rediss", "no certificate", "certificates (PEM)"),
        ("DCAO_REDIS_CERT_FILE", "rediss", "no certificate", "without a passphrase"),
        ("DCAO_REDIS_KEY_FILE", "rediss", "no key", "DCAO_REDIS_CERT_FILE because"),
        ("DCAO_REDIS_CA_FILE", "redis", "unused", "start with rediss"),
    ],
)
def test_certificates_are_looked_at_before_the_start(
    name: str, scheme: str, text: str | None, expected: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if text is not None:
        (tmp_path / "pem").write_text(text)
    monkeypatch.setenv("DCAO_REDIS_URL", f"{scheme}://:{SECRET}@localhost")
    monkeypatch.setenv(name, str(tmp_path / "pem"))
    assert expected in refused(capsys)


@pytest.mark.parametrize("variable", ["DCAO_PORT", "DCAO_METRICS_PORT"])
def test_a_port_in_use_is_one_line_with_advice(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv(variable, str(taken.getsockname()[1]))
        assert f"set {variable} to another port" in refused(capsys)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-name.invalid"])
def test_an_address_of_another_machine_is_one_line(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("")
    monkeypatch.setenv("DCAO_HOST", host)
    monkeypatch.setenv("DCAO_API_KEYS_FILE", str(tmp_path / "keys"))
    assert "DCAO_HOST to be an address of this machine" in refused(capsys)


@pytest.mark.parametrize(
    "data",
    [
        SECRET.encode() + b"\n",
        SECRET.encode() + b"\r\n",
        codecs.BOM_UTF8 + SECRET.encode(),
        (SECRET + "\r\n").encode("utf-16"),
        codecs.BOM_UTF16_BE + SECRET.encode("utf-16-be"),
        SECRET.encode("utf-32"),
    ],
    ids=["lf", "crlf", "utf-8 mark", "utf-16", "utf-16 be", "utf-32"],
)
def test_a_secret_is_its_text_however_an_editor_saved_it(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(data)
    monkeypatch.setenv("DCAO_REDIS_PASSWORD_FILE", str(tmp_path / "secret"))
    password = Settings().redis_password
    assert password is not None
    assert password.get_secret_value() == SECRET


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"\xff" + SECRET.encode(), SECRET.encode("utf-16-le"), f"a\n{SECRET}".encode()],
    ids=["empty", "line end", "latin", "utf-16 without mark", "two lines"],
)
def test_a_file_that_holds_no_secret_is_one_line(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_bytes(data)
    monkeypatch.setenv("DCAO_REDIS_PASSWORD_FILE", str(tmp_path / "secret"))
    assert "DCAO_REDIS_PASSWORD_FILE" in refused(capsys)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_of_keys_may_have_a_mark_too(encoding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.jsonl"
    main(["keys", "create", "--file", str(file), "--project", "p"])
    file.write_text(file.read_text(), encoding=encoding)
    capsys.readouterr()
    assert main(["keys", "list", "--file", str(file)]) == 0
    file.write_bytes(b"\xff\xff")
    assert "UTF-8" in refused(capsys, "keys", "list", "--file", str(file))
    assert "UTF-8" in refused(capsys, "keys", "create", "--file", str(file), "--project", "p")


def test_no_database_is_made_by_a_start_that_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-m", "dcao_server.main", "serve", "--port", str(taken.getsockname()[1])],
            env={"DCAO_DATA": str(tmp_path / "x"), "PYTHONPATH": ":".join(sys.path)},
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "x").iterdir()) == []


def test_a_home_folder_is_a_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(data=Path("~/x")).data == tmp_path / "x"


def test_settings_errors_are_values_for_whoever_embeds_a_controller(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="got both"):
        _both(tmp_path)


def _both(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCAO_REDIS_URL", "redis://h")
        patch.setenv("DCAO_REDIS_URL_FILE", str(tmp_path))
        Settings()
