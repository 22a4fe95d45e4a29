"""What the HTTP protocol itself refuses: by a real process over real sockets."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.operation.process import Server, read_all, read_answer, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("limits") / "log"
    limits = {
        "DCAO_HEADER_LIMIT": "2048",
        "DCAO_HEADER_SECONDS": "1",
        "DCAO_BODY_SECONDS": "1.5",
        "DCAO_MAX_CONNECTIONS": "8",
        "DCAO_KEEP_ALIVE_SECONDS": "2",
    }
    with running(log, **limits) as server:
        yield server


def problem(answer: bytes, status: int, slug: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert json.loads(body)["type"].endswith(slug)


@pytest.mark.parametrize(
    "garbage",
    [b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
     b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"CONNECT host:1 HTTP/1.1\r\n\r\n"],
    ids=["word", "tls", "path", "version", "two lengths", "connect"],
)  # fmt: skip
def test_what_is_no_request_gets_a_problem_document(server: Server, garbage: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(garbage)
        problem(read_all(connection), 400, "malformed")


@pytest.mark.parametrize("header", [b"X-Long: " + b"a" * 3000, b"".join(b"X-%d: 1\r\n" % n for n in range(400))])
def test_too_large_a_header_is_refused(server: Server, header: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n")
        problem(read_all(connection), 431, "headers-too-large")


def test_a_header_without_end_is_refused_when_it_exceeds_the_limit(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Endless: ")
        for _ in range(5):
            connection.sendall(b"a" * 512)
            time.sleep(0.01)
        problem(read_all(connection), 431, "headers-too-large")


def test_a_large_body_behind_a_small_header_is_no_large_header(server: Server) -> None:
    with server.connect() as connection:
        body = b'{"rho": 1.0}' + b" " * 8000
        connection.sendall(
            b"POST /v1/projects/p/runs/r/decisions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_many_small_requests_on_one_connection_do_not_add_up(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 99)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert read_all(connection).count(b"HTTP/1.1 200 ") == 100


@pytest.mark.parametrize(
    "beginning", [b"", b"\r\n", b"GET /healthz HTTP/1.1\r\nHost:"], ids=["nothing", "a line end", "half a header"]
)
def test_a_request_that_does_not_come_is_not_waited_for(server: Server, beginning: bytes) -> None:
    started = time.monotonic()
    with server.connect() as connection:
        connection.sendall(beginning)
        assert read_all(connection) == b""
    assert 0.9 < time.monotonic() - started < 4


def test_bytes_that_trickle_in_do_not_gain_time(server: Server) -> None:
    started = time.monotonic()
    with server.connect() as connection:
        try:
            for byte in b"GET /healthz HTTP/1.1\r\nX-Slow: " + b"a" * 200:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            pass
    assert time.monotonic() - started < 5


def test_a_body_that_does_not_come_is_not_waited_for(server: Server) -> None:
    started = time.monotonic()
    with server.connect() as connection:
        connection.sendall(
            b"PUT /v1/projects/p/runs/r HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        assert read_all(connection) == b""
    assert 1.4 < time.monotonic() - started < 5


def test_an_idle_connection_is_kept_for_its_time(server: Server) -> None:
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
            time.sleep(1.2)  # longer than the header time, shorter than the keep-alive time


@pytest.mark.parametrize(
    "asked",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PUT /v1/projects/p/runs/r HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 5\r\n\r\n",
    ],
    ids=["answered", "refused before its body came"],
)
def test_an_idle_connection_is_closed_after_its_time(server: Server, asked: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(asked)
        assert read_answer(connection)
        connection.sendall(b"12345" if b"PUT" in asked else b"")
        started = time.monotonic()
        assert read_all(connection) == b""
    assert 1.9 < time.monotonic() - started < 4


def test_connections_beyond_the_limit_get_a_503(server: Server) -> None:
    time.sleep(0.2)  # those of other tests are gone
    connections = [server.connect() for _ in range(12)]
    try:
        problem(read_all(connections[-1]), 503, "not-ready")
        connections[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(connections[0]).startswith(b"HTTP/1.1 200 ")
    finally:
        for connection in connections:
            connection.close()


def test_expect_continue_is_answered_before_the_body(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"PUT /v1/projects/p/runs/r HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: 999999\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 "), "the body need not be sent to be refused"


def test_no_trace_of_all_this_is_an_error_in_the_log(server: Server, tmp_path: Path) -> None:
    assert [line for line in server.lines() if line["level"] == "error"] == []
