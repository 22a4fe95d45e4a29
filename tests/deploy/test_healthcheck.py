"""The images' health check says whether the controller beside it serves, and why not."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dcao_server.healthcheck import DEFAULT_PORT, address, check, main
from dcao_server.settings import Settings


class Controller(BaseHTTPRequestHandler):
    """Answers 200 on /healthz and 503 on everything else, as a controller without Redis does."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, *args: object) -> None:
        """Quiet: the test's output is its failures."""


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Controller)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_controller_that_serves_is_healthy_even_when_it_is_not_ready(port: int) -> None:
    assert check("127.0.0.1", port) is None


def test_nothing_listening_is_reported_with_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reason = check("127.0.0.1", port)
    assert reason is not None
    assert f"http://127.0.0.1:{port}/healthz" in reason


def test_a_listener_that_never_answers_is_given_up_within_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reason = check("127.0.0.1", silent.getsockname()[1], timeout=0.2)
    assert reason is not None
    assert "TimeoutError" in reason


def test_another_status_than_200_is_unhealthy(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Controller, "do_GET", lambda self: self.send_error(500))
    assert check("127.0.0.1", port) == (
        f"expected 200 from http://127.0.0.1:{port}/healthz, got 500; see the controller's log"
    )


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("127.0.0.1", DEFAULT_PORT)),
        ({"DCAO_HOST": "0.0.0.0", "DCAO_PORT": "8080"}, ("127.0.0.1", 8080)),
        ({"DCAO_HOST": "::", "DCAO_PORT": "8080"}, ("::1", 8080)),
        ({"DCAO_HOST": "[::1]", "DCAO_PORT": "8080"}, ("::1", 8080)),
        ({"DCAO_HOST": "10.0.0.7"}, ("10.0.0.7", DEFAULT_PORT)),
    ],
)
def test_a_controller_on_every_interface_is_asked_on_the_loopback_one(
    environ: dict[str, str], expected: tuple[str, int]
) -> None:
    assert address(environ) == expected


def test_the_port_asked_by_default_is_the_port_served_by_default() -> None:
    assert Settings.model_fields["port"].default == DEFAULT_PORT


@pytest.mark.parametrize("text", ["", "http", "0", "65536", "-1"])
def test_a_port_that_is_none_is_refused_in_words(text: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("DCAO_PORT", text)
    assert main() == 1
    assert capsys.readouterr().err == (
        f"expected DCAO_PORT to be a port from 1 to 65535, got {text!r}; correct or unset it\n"
    )


def test_the_module_exits_with_the_verdict_and_imports_nothing_but_the_standard_library(port: int) -> None:
    program = (
        "import os, runpy, sys\n"
        "before = set(sys.modules)\n"
        "try: runpy.run_module('dcao_server.healthcheck', run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "foreign = {m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "print(sorted(foreign), code)\n"
    )
    environment = {"DCAO_HOST": "0.0.0.0", "DCAO_PORT": str(port)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "['dcao_server'] 0\n"
