"""The shipped proxy in front of a real controller: which paths it lets through, however they are spelt."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, create_key
from tests.server.operation.process import running

from .test_configurations import DEPLOY, program

GUARDED = ["/metrics", "/metrics/runs"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def encodings(path: str) -> Iterator[str]:
    """The path with each single character encoded, in both cases of its digits, and with all of them."""
    yield path
    for index, sign in enumerate(path):
        if index:
            yield from sorted({f"{path[:index]}%{ord(sign):{digits}}{path[index + 1 :]}" for digits in ("02x", "02X")})
    yield "/" + "".join(f"%{ord(sign):02x}" for sign in path[1:])


@contextmanager
def proxy(folder: Path, upstream: int, metrics: int) -> Iterator[dict[int, int]]:
    """A real HAProxy with the shipped configuration; its ports by those of the configuration.

    Replicas are found by name in a container network; here the names are this machine's.
    """
    ports = {shipped: free_port() for shipped in (8080, 8081, 8404)}
    text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    for shipped, port in ports.items():
        assert f"bind :{shipped}\n" in text
        text = text.replace(f"bind :{shipped}\n", f"bind 127.0.0.1:{port}\n")
    text = text.replace("/tmp/haproxy.sock", str(folder / "s")).replace("init-addr none resolvers engine", "")
    text = text.replace("server-template controller 1-32", "server controller")
    (folder / "haproxy.cfg").write_text(text)
    environment = {
        **os.environ,
        "DCAO_UPSTREAM": f"127.0.0.1:{upstream}",
        "DCAO_UPSTREAM_METRICS": f"127.0.0.1:{metrics}",
    }
    command = [program("haproxy", "haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while not (exchange(ports[8080], "GET /healthz").startswith("HTTP/1.1 200")):
            assert time.monotonic() < end, "expected the proxy to find its controller within 20 s"
            time.sleep(0.05)
        yield ports
    finally:
        process.kill()
        process.wait(10)


def exchange(port: int, line: str, headers: str = "", body: str = "") -> str:
    """The whole answer to a request whose target is sent as it stands; "" when nobody listens."""
    request = f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{headers}\r\n{body}"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request.encode("latin-1"))
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode("utf-8", "replace")
    except OSError:
        return ""


def status(answer: str) -> int:
    return int(answer.split(" ", 2)[1])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[int, int], int, str]]:
    """Proxy's ports, the controller's port, a key that may write."""
    folder = tmp_path_factory.mktemp("proxy")
    file = KeyFile(folder / "keys.jsonl")
    key, record = create_key({"*": Scope.WRITE})
    file.add(record)
    metrics = free_port()
    environ = {"DCAO_API_KEYS_FILE": str(file.path), "DCAO_METRICS_PORT": str(metrics)}
    with running(folder / "log", "-m", "dcao_server.main", "serve", **environ) as server:
        port = int(server.url.rpartition(":")[2])
        with proxy(folder, port, metrics) as ports:
            yield ports, port, key


@pytest.mark.parametrize("path", GUARDED)
def test_no_spelling_of_a_guarded_path_passes_the_proxy_or_the_controller(
    path: str, shipped: tuple[dict[int, int], int, str]
) -> None:
    """Every single-character encoding: 404 of the proxy without a key and with one, 401 of the controller itself."""
    ports, controller, key = shipped
    bearer = f"Authorization: Bearer {key}\r\n"
    for spelt in encodings(path):
        for headers in ("", bearer):
            answer = exchange(ports[8080], f"GET {spelt}", headers)
            assert status(answer) == 404, spelt
            assert "inner network" in answer, spelt
        assert status(exchange(controller, f"GET {spelt}")) == 401, spelt


@pytest.mark.parametrize(
    "target",
    ["//metrics/runs", "/./metrics", "/v1/../metrics", "/static/../metrics/runs", "/metrics/", "/metrics?x",
     "/metrics;x", "/Metrics", "/%256detrics", "/metrics%00", "/metrics%2fruns", "/v1%2f..%2fmetrics", "/%zzmetrics",
     "/metrics%3f", "http://x/metrics", "http://x/%6detrics/runs", "/unknown"],
)  # fmt: skip
def test_no_other_trick_shows_metrics(target: str, shipped: tuple[dict[int, int], int, str]) -> None:
    ports, _, key = shipped
    answer = exchange(ports[8080], f"GET {target}", f"Authorization: Bearer {key}\r\n")
    assert status(answer) in (400, 404)
    assert "dcao_live_runs" not in answer
    assert "dcao_build_info" not in answer


@pytest.mark.parametrize(
    ("target", "expected"),
    [("/", 200), ("/healthz", 200), ("/readyz", 200), ("/openapi.json", 200), ("/v1/policies", 200),
     ("/v1/%70olicies", 200), ("/%76%31/policies", 200), ("/static/reasons.json", 200)],
)  # fmt: skip
def test_what_is_served_is_served_however_it_is_spelt(
    target: str, expected: int, shipped: tuple[dict[int, int], int, str]
) -> None:
    ports, _, key = shipped
    assert status(exchange(ports[8080], f"GET {target}", f"Authorization: Bearer {key}\r\n")) == expected
    assert status(exchange(ports[8080], f"HEAD {target}", f"Authorization: Bearer {key}\r\n")) in (expected, 405)


@pytest.mark.parametrize("path", ["/v1/policies", "/v1/projects/p/runs"])
def test_no_spelling_of_the_api_is_open_to_a_stranger(path: str, shipped: tuple[dict[int, int], int, str]) -> None:
    ports, _, _ = shipped
    for spelt in encodings(path):
        assert status(exchange(ports[8080], f"GET {spelt}")) == 401, spelt


def test_every_file_of_the_page_and_every_route_of_the_document_passes(
    shipped: tuple[dict[int, int], int, str],
) -> None:
    """A route that somebody adds outside the list is found here, not by its users."""
    from dcao_server.app import create_app
    from dcao_server.page.routes import assets
    from dcao_server.settings import Settings

    ports, _, key = shipped
    bearer = f"Authorization: Bearer {key}\r\n"
    for name in assets():
        assert status(exchange(ports[8080], f"GET /static/{name}", bearer)) == 200, name
    for path in create_app(Settings.model_construct()).openapi()["paths"]:
        answer = exchange(ports[8080], f"OPTIONS {path.format(project='p', run='r')}", bearer)
        assert ("inner network" in answer) == path.startswith("/metrics"), path


def test_the_inner_port_shows_the_runs_and_nothing_else(shipped: tuple[dict[int, int], int, str]) -> None:
    ports, _, key = shipped
    assert "dcao_live_runs" in exchange(ports[8081], "GET /metrics/runs")
    for target in ("/metrics", "/", "/v1/policies", "/healthz", *itertools.islice(encodings("/metrics"), 1, None)):
        assert status(exchange(ports[8081], f"GET {target}", f"Authorization: Bearer {key}\r\n")) == 404


def test_a_client_that_offers_http2_gets_its_body_through(shipped: tuple[dict[int, int], int, str]) -> None:
    ports, _, key = shipped
    headers = (
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    )
    assert status(exchange(ports[8080], "POST /v1/decide", headers, "{}")) == 422


class Flaky(BaseHTTPRequestHandler):
    """Healthy, and answers whatever else it is asked by closing the connection; counts how often it was asked."""

    protocol_version = "HTTP/1.1"
    asked: dict[str, int]

    def do_GET(self) -> None:
        if self.path in ("/healthz", "/readyz"):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.asked[self.path] = self.asked.get(self.path, 0) + 1
        self.close_connection = True

    def do_PUT(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *words: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def flaky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, int]]]:
    """The proxy's port before a replica that dies with every request in hand, and what that was asked."""
    handler = type("Counting", (Flaky,), {"asked": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with proxy(tmp_path_factory.mktemp("flaky"), server.server_port, server.server_port) as ports:
            yield ports[8080], handler.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_new_attempt_is_asked_for_once_however_it_is_spelt(flaky: tuple[int, dict[str, int]]) -> None:
    port, asked = flaky
    path = "/v1/projects/p/runs/r/attempts"
    spellings = [f"/v1/projects/p/runs/r{spelt}" for spelt in encodings("/attempts")]
    spellings += ["/v1/projects/p/runs/r%2fattempts", f"{path}?x=/decisions", f"{path}/", f"{path};/decisions%3b"]
    for spelt in spellings:
        assert status(exchange(port, f"POST {spelt}")) in (502, 503, 504), spelt
        assert asked[spelt] == 1, spelt


@pytest.mark.parametrize(
    "line",
    ["POST /v1/projects/p/runs/r/decisions", "POST /v1/projects/p/runs/r/%64ecisions", "POST /v1/decide",
     "POST /v1/projects/p/runs/r/decisions:backfill", "GET /v1/policies", "PUT /v1/projects/p/runs/r"],
)  # fmt: skip
def test_what_may_be_repeated_is(line: str, flaky: tuple[int, dict[str, int]]) -> None:
    port, asked = flaky
    exchange(port, line)
    assert asked[line.split()[1]] > 1
