"""Where the controller is, who we are to it, and what is never said aloud."""

import logging
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dcao_client import Session
from dcao_client.errors import SettingsError
from dcao_client.names import wire_name
from dcao_client.settings import ClientSettings
from tests.client.test_answers import Controller
from tests.client.test_cli import DCAO, dcao
from tests.client.test_session import SPEC, Network, down, observations

KEY = "dcao_0123456789ab_c2VjcmV0LXNlY3JldC1zZWNyZXQ"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def controller() -> Iterator[Controller]:
    server = Controller()
    yield server
    server.close()


@pytest.mark.parametrize("url", ["localhost:8000", "127.0.0.1:8000", "controller", "ftp://c:1", "http://", "http://c:x",
                                 "http://c:99999", "//c:8000", "ht tp://c", "http://c\n:8000/\x00", "http://[::1",
                                 f"http://{'a' * 70}.org", '"http://c:1"'])  # fmt: skip
def test_a_url_that_is_none_is_refused_at_once_with_the_fix(tmp_path, url):
    """Not at the first decision, and not in silence."""
    with pytest.raises(SettingsError, match=r"DCAO_URL: expected http://host:port"):
        Session(SPEC, run="r", url=url, journal_dir=tmp_path)


def test_the_fix_is_the_url_that_was_meant():
    """Ready to paste."""
    with pytest.raises(SettingsError, match="for example http://localhost:8000"):
        ClientSettings.read(url="localhost:8000")


@pytest.mark.parametrize(
    ("url", "read"), [(" http://c:8000\n", "http://c:8000"), ("", None), ("https://c/p", "https://c/p")]
)
def test_a_url_may_have_space_around_it(url, read):
    """A variable that was set from a file, or to nothing."""
    assert ClientSettings.read(url=url).url == read


@pytest.mark.parametrize("text", [KEY + "\n", f"  {KEY}\r\n", KEY, f"\ufeff{KEY}"])
@pytest.mark.parametrize("by", ["argument", "file"])
def test_a_key_is_stripped_once(tmp_path, text, by):
    """Of what editors and `echo` put around it."""
    if by == "argument":
        settings = ClientSettings.read(api_key=text)
    else:
        (tmp_path / "key").write_text(text, encoding="utf-8", newline="")
        settings = ClientSettings.read(api_key_file=tmp_path / "key")
    assert settings.read_api_key() == KEY


@pytest.mark.parametrize("bad", [f"{KEY[:20]}\n{KEY[20:]}", f"{KEY} x", f"{KEY}é", f"{KEY}\x00", f"{KEY}\u2028x"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(tmp_path, caplog, bad):
    """Neither in the exception, nor in a log, nor by the command line."""
    with pytest.raises(SettingsError, match="DCAO_API_KEY") as refusal:
        Session(SPEC, run="r", url="http://127.0.0.1:9", api_key=bad, journal_dir=tmp_path)
    assert KEY[:12] not in str(refusal.value)
    assert refusal.value.__cause__ is None
    (tmp_path / "key").write_text(bad, encoding="utf-8", newline="")
    with caplog.at_level(logging.DEBUG), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCAO_API_KEY_FILE", str(tmp_path / "key"))
        session = Session(SPEC, run="r", url="http://127.0.0.1:9", journal_dir=tmp_path, http=Network(down))
        session.decide(observations(1)[0])
        session.close(timeout=0)
    assert "going on without a key" in caplog.text
    assert KEY[:12] not in caplog.text


def test_the_command_line_does_not_show_a_key_either():
    """One sentence, exit code 1."""
    environment = {**os.environ, "DCAO_API_KEY": f"{KEY}é\n", "DCAO_URL": "http://127.0.0.1:9"}
    done = subprocess.run([DCAO, "runs"], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1
    assert "DCAO_API_KEY" in done.stderr
    assert KEY[:12] not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_key_in_the_place_of_the_url_is_not_shown():
    """It went into the wrong variable."""
    for given in (KEY, f"user:{KEY}@host", f"{KEY}:8000"):
        with pytest.raises(SettingsError, match="DCAO_URL") as refusal:
            ClientSettings.read(url=given)
        assert KEY[6:] not in str(refusal.value)


@pytest.mark.parametrize(
    "proxy", ["http://u:pass\nword@h:1", "http://u:pass[word@h:1", "http://u:pass/word@h:1", "u:password@h"]
)
def test_a_proxy_that_is_none_is_refused_without_being_shown(proxy):
    """Its password may be what does not fit."""
    with pytest.raises(SettingsError, match=r"DCAO_PROXY: expected http://.*escape it") as refusal:
        ClientSettings.read(proxy=proxy)
    assert "pass" not in str(refusal.value).replace("password", "")
    assert "Invalid" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"\r\n \n", "an empty file"),
        (b"\xff\xfe\x00", "expected text"),
        (None, "1 MiB at most"),
    ],
)
def test_a_file_that_holds_no_key_is_said_to(tmp_path, content, said):
    """Rather than taken for no key in silence, or read without end."""
    file = Path("/dev/zero") if content is None else tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"DCAO_API_KEY_FILE.*{said}"):
        ClientSettings.read(api_key_file=file).read_api_key()


def test_a_key_that_powershell_wrote_is_read(tmp_path):
    """Its `>` writes UTF-16 with a mark."""
    (tmp_path / "key").write_text(KEY + "\r\n", encoding="utf-16", newline="")
    assert ClientSettings.read(api_key_file=tmp_path / "key").read_api_key() == KEY


def test_a_librarys_words_are_not_passed_on(tmp_path, caplog):
    """They may quote a header; only what is said of the network is."""

    def fault(request: httpx.Request) -> None:
        raise httpx.LocalProtocolError(f"Illegal header value {request.headers['authorization']!r}")

    with caplog.at_level(logging.DEBUG, "dcao"):
        session = Session(
            SPEC, run="r", url="http://c", api_key=KEY, journal_dir=tmp_path, http=Network(fault), deadline=5
        )
        session.decide(observations(1)[0])
        session.close(timeout=0)
    assert "LocalProtocolError" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize("name", ["resnet50 lr=0.1", "team/exp-3", "./results", "…", "a" * 200, "x\ny", "..", "\ud800"])
def test_any_text_is_a_name(controller, tmp_path, name):
    """What goes into a path and onto the wire is derived from it, and is the same each time."""
    with Session(SPEC, run=name, project=name, url=controller.url, journal_dir=tmp_path, deadline=5) as session:
        assert session.decide(observations(1)[0]).persisted
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", session.run)
    assert session.run == wire_name(name)
    with Session(SPEC, run=name, project=name, journal_dir=tmp_path) as alone:
        alone.decide(observations(1)[0])
    assert alone.journal_path.is_relative_to(tmp_path)


def test_names_that_differ_stay_apart():
    """A digest of the whole text is part of what is derived."""
    assert len({wire_name(name) for name in ("a b", "a/b", "a_b", "a  b", "a-b")}) == 5


def test_not_two_of_many_names_share_one():
    """Names in a script of which nothing is readable: two of these had the same digest of four bytes."""
    assert len({wire_name(f"名{number}") for number in range(200_000)}) == 200_000


@pytest.mark.parametrize("given", [Path("results/exp 1"), 7, 0])
def test_a_folder_or_a_number_is_a_name_too(tmp_path, given):
    """transformers' output folder, Optuna's number of a trial."""
    with Session(SPEC, run=given, journal_dir=tmp_path) as session:
        assert session.run == wire_name(str(given))


@pytest.mark.parametrize("name", ["", "a" * 201])
def test_a_name_has_one_to_two_hundred_characters(name):
    """The message says so."""
    with pytest.raises(SettingsError, match="1 to 200"):
        wire_name(name)


def test_without_a_controller_it_is_said_once_where_decisions_lie(tmp_path, caplog):
    """And how to have them elsewhere, sent, or not at all."""
    with caplog.at_level(logging.INFO, "dcao"), Session(SPEC, run="r", journal_dir=tmp_path) as session:
        for observation in observations(3):
            session.decide(observation)
    said = [record.message for record in caplog.records if "DCAO_URL" in record.message]
    assert len(said) == 1
    assert str(tmp_path / "default" / "r.jsonl") in said[0]
    assert "DCAO_JOURNAL=0" in said[0]


def test_the_journal_can_be_turned_off(tmp_path, monkeypatch):
    """Nothing piles up."""
    monkeypatch.setenv("DCAO_JOURNAL", "0")
    with Session(SPEC, run="r", journal_dir=tmp_path) as session:
        session.decide(observations(1)[0])
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody trusts yet, and its key."""
    folder = tmp_path_factory.mktemp("ca")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert,
         "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_a_private_ca_can_be_named(controller, authority, tmp_path):
    """Without it the controller is not believed; with it decisions go over TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority)
    controller._server.socket = context.wrap_socket(controller._server.socket, server_side=True)
    url = controller.url.replace("http://", "https://")
    with Session(SPEC, run="r", url=url, journal_dir=tmp_path, deadline=5) as session:
        session.decide(observations(1)[0])
    assert session.stats.in_process == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCAO_CA_FILE", str(authority[0]))
        with Session(SPEC, run="r", url=url, journal_dir=tmp_path, deadline=5) as session:
            assert session.decide(observations(1)[0]).persisted
        assert dcao("runs", url="https://127.0.0.1:9").returncode == 1
        patch.setenv("DCAO_CA_FILE", str(tmp_path / "none"))
        with pytest.raises(SettingsError, match="DCAO_CA_FILE"):
            Session(SPEC, run="r", url=url, journal_dir=tmp_path)


def test_a_proxy_can_be_named(controller, tmp_path, monkeypatch):
    """Every request goes through it, to the controller's own address."""
    asked: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            asked.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        monkeypatch.setenv("DCAO_PROXY", f"http://me:pass@127.0.0.1:{listening.getsockname()[1]}")
        session = Session(SPEC, run="r", url="http://controller.example:8000", journal_dir=tmp_path, deadline=5)
        session.decide(observations(1)[0])
        session.close(timeout=0)
    assert asked[0].startswith(b"PUT http://controller.example:8000/v1/")
    assert b"proxy-authorization: basic" in asked[0].lower()


def test_the_documentation_has_every_setting_of_the_client():
    """Name, default, and meaning, as in the code."""
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    for name, field in ClientSettings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        assert f"| `DCAO_{name.upper()}` | {default} | {field.description} |" in page


def test_commands_take_the_name_that_the_user_gave(controller):
    """Not what was made of it: `dcao show "team/exp-3"` asks about the run that is meant."""
    done = dcao("export", "team/exp-3", "--format", "ndjson", url=controller.url)
    assert "Traceback" not in done.stderr
    assert controller.asked[-1].startswith(f"/v1/projects/default/runs/{wire_name('team/exp-3')}/decisions")
