"""The commands that read, and what answers is no controller: one sentence, in bounded time and memory."""

import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dcao_client.cli import api as api_module
from dcao_client.cli.api import Api
from dcao_client.cli.output import CommandError

MIB = 2**20
PAGE = {"records": [], "next_cursor": "1:5"}
ANSWERS: dict[str, tuple[dict[str, str], bytes, int]] = {
    "a bomb": ({"content-encoding": "gzip"}, gzip.compress(bytes(300 * MIB)), 1),
    "two codings": ({"content-encoding": "br, gzip"}, b"x", 1),
    "without end": ({}, b" " * MIB, 10_000),
    "a trickle": ({}, b" ", 400),
    "the same cursor": ({}, json.dumps(PAGE).encode(), 1),
    "no text": ({}, b"\xff\xfe{", 1),
    "deep": ({}, b"[" * MIB, 1),
    "another thing": ({}, b"[1, 2]", 1),
}


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[str]:
    headers, body, times = ANSWERS[request.param]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            for _ in range(times):
                self.wfile.write(body)
                time.sleep(0.05 if len(body) == 1 else 0)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """The command hung up, as it should."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("answering", ANSWERS, indirect=True)
def test_whatever_answers_is_one_sentence(answering: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "MAX_PAGE", 4 * MIB)
    monkeypatch.setattr(api_module, "MAX_SECONDS", 1.0)
    api = Api(answering, None)
    tracemalloc.start()
    try:
        for ask in (api.history("r"), api.runs(), api.projects()):
            with pytest.raises(CommandError, match="expected"):
                list(ask)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()
        api.close()


@pytest.mark.parametrize("answering", ["a bomb", "two codings"], indirect=True)
def test_an_export_takes_no_bomb(answering: str) -> None:
    api = Api(answering, None)
    with pytest.raises(CommandError, match="not compressed"):
        list(api.download("/v1/x"))
    api.close()
