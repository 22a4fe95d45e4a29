"""Where a controller listens and what each door serves: real processes, real sockets."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dcao_server.healthcheck import address, check
from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, create_key
from tests.server.operation.process import REPOSITORY, Server, read_all, read_answer, running

CONTROLLER = ("-m", "dcao_server.main", "serve")
RUN = b'{"optimizer":"sgd","base":{"lr":0.1,"momentum":0.9,"weight_decay":0.0},"policy":{"name":"paper"}}'


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of keys, and one that may read everything."""
    file = KeyFile(tmp_path_factory.mktemp("keys") / "keys.jsonl")
    key, record = create_key({"*": Scope.WRITE})
    file.add(record)
    return file.path, key


@pytest.fixture(scope="module")
def server(keys: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real controller with keys and a port for metrics."""
    log = tmp_path_factory.mktemp("doors") / "log"
    environ = {"DCAO_API_KEYS_FILE": str(keys[0]), "DCAO_METRICS_PORT": "0"}
    with running(log, *CONTROLLER, **environ) as server:
        yield server


def test_metrics_want_a_key_on_the_usual_port_and_none_on_their_own(server: Server, keys: tuple[Path, str]) -> None:
    own = server.wait_for("serving metrics")["url"]
    for path in ("/metrics", "/metrics/runs", "/%6detrics/runs"):
        assert httpx.get(server.url + path).status_code == 401
        assert httpx.get(server.url + path, headers={"authorization": f"Bearer {keys[1]}"}).status_code == 200
        assert httpx.get(own + path).status_code == 200


def test_the_metrics_port_serves_nothing_else(server: Server, keys: tuple[Path, str]) -> None:
    own = server.wait_for("serving metrics")["url"]
    headers = {"authorization": f"Bearer {keys[1]}", "content-type": "application/json"}
    for path in ("/healthz", "/readyz"):
        assert httpx.get(own + path).status_code == 200
    for path in ("/", "/v1/policies", "/openapi.json", "/static/app.css"):
        assert httpx.get(own + path, headers=headers).status_code == 404
    # The hot path enters by another way than the others, and must be shut there too.
    path = "/v1/projects/p/runs/r/decisions"
    assert httpx.post(own + path, headers=headers, content=b"{}").status_code == 404
    assert httpx.post(server.url + path, headers=headers, content=b"{}").status_code == 422


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/openapi.json"])
def test_head_is_get_without_the_body(server: Server, path: str) -> None:
    got = httpx.head(server.url + path)
    assert got.status_code == 200
    assert got.content == b""


@pytest.mark.parametrize("path", ["/healthz", "/v1/policies", "/v1/projects/p/runs/r/decisions"])
@pytest.mark.parametrize(
    "hosts", ["", "Host: a\r\nHost: b\r\n", "Host: a\r\nhost: a\r\n"], ids=["none", "two", "twice"]
)
def test_a_request_names_one_host(server: Server, keys: tuple[Path, str], path: str, hosts: str) -> None:
    """RFC 9112 §3.2: none, or two, is 400, on the hot path as on the others."""
    method = "POST" if path.endswith("decisions") else "GET"
    head = f"{method} {path} HTTP/1.1\r\n{hosts}Authorization: Bearer {keys[1]}\r\nContent-Length: 0\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head.encode())
        assert read_answer(connection).startswith(b"HTTP/1.1 400 ")


def offering(method: str, path: str, body: bytes, key: str, more: str = "") -> bytes:
    """What Java's HttpClient sends first."""
    return (
        f"{method} {path} HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: {len(body)}\r\nHost: x\r\n"
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\nUser-Agent: Java-http-client\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n{more}\r\n"
    ).encode() + body


@pytest.mark.parametrize("size", [1, 7, 100_000], ids=["byte by byte", "sevens", "at once"])
def test_an_offer_of_another_protocol_is_ignored_and_the_body_read(
    server: Server, keys: tuple[Path, str], size: int
) -> None:
    data = offering("PUT", f"/v1/projects/p/runs/java-{size}", RUN, keys[1])
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(data), size):
            connection.sendall(data[begin : begin + size])
        answer = read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 201 "), answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["run"] == f"java-{size}"
        # And the connection lives on, as one that never offered anything.
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_a_chunked_body_and_a_second_request_behind_an_offer_arrive(server: Server, keys: tuple[Path, str]) -> None:
    head = offering("PUT", "/v1/projects/p/runs/chunked", b"", keys[1], "Transfer-Encoding: chunked\r\n")
    head = head.replace(b"Content-Length: 0\r\n", b"")
    with server.connect() as connection:
        connection.sendall(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(RUN), RUN))
        assert read_answer(connection).startswith(b"HTTP/1.1 201 ")
        connection.sendall(offering("GET", "/healthz", b"", keys[1]) + b"GET /readyz HTTP/1.1\r\nHost: x\r\n"
                           b"Connection: close\r\n\r\n")  # fmt: skip
        assert read_all(connection).count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize("offer", ["websocket", "h2c", "TLS/1.0", "h2c, websocket"])
def test_no_offer_of_whatever_is_taken(server: Server, keys: tuple[Path, str], offer: str) -> None:
    data = offering("POST", "/v1/decide", b"{}", keys[1]).replace(b"h2c", offer.encode())
    with server.connect() as connection:
        connection.sendall(data)
        assert read_answer(connection).startswith(b"HTTP/1.1 422 ")


def test_too_large_a_head_is_refused_though_it_offers(server: Server, keys: tuple[Path, str]) -> None:
    with server.connect() as connection:
        connection.sendall(offering("GET", "/healthz", b"", keys[1], f"X-Long: {'a' * 20_000}\r\n"))
        assert read_all(connection).startswith(b"HTTP/1.1 431 ")


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_two_colons_are_every_address_of_both_families_and_healthy(keys: tuple[Path, str], tmp_path: Path) -> None:
    environ = {"DCAO_API_KEYS_FILE": str(keys[0]), "DCAO_HOST": "::"}
    with running(tmp_path / "log", *CONTROLLER, **environ) as server:
        port = int(server.url.rpartition(":")[2])
        assert server.url == f"http://[::]:{port}"
        for host in ("127.0.0.1", "::1"):
            assert check(host, port) is None
        assert address({"DCAO_HOST": "::", "DCAO_PORT": str(port)}) == ("::1", port)
        environ = {**os.environ, "DCAO_HOST": "::", "DCAO_PORT": str(port)}
        command = [sys.executable, "-m", "dcao_server.healthcheck"]
        assert subprocess.run(command, env=environ, cwd=REPOSITORY, check=False).returncode == 0


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_a_name_with_two_addresses_is_served_on_both_by_one_port(tmp_path: Path) -> None:
    hosts = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    with running(tmp_path / "log", *CONTROLLER, DCAO_HOST="localhost") as server:
        port = int(server.url.rpartition(":")[2])
        for host in hosts:
            assert check(str(host), port) is None


def test_two_keys_are_none(tmp_path: Path, keys: tuple[Path, str]) -> None:
    """A proxy may have judged by the one, and the controller would by the other."""
    good, bad = f"Authorization: Bearer {keys[1]}\r\n", "Authorization: Bearer dcao_no\r\n"
    with running(tmp_path / "log", *CONTROLLER, DCAO_API_KEYS_FILE=str(keys[0])) as server:
        for headers, expected in ((good, b"200"), (good + bad, b"400"), (bad + good, b"400")):
            with server.connect() as connection:
                request = f"GET /v1/policies HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
                connection.sendall(request.encode())
                answer = read_all(connection)
            assert answer.split(b" ")[1] == expected
            assert keys[1].encode() not in answer
