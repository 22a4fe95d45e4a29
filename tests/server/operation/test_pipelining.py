"""Requests that come behind an unanswered one wait in the sender's own buffers, whatever it reads."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.operation.process import Server, read_all, read_answer, running

REQUEST = b"GET /v1/projects/p/runs/r HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = (
    b"POST /v1/decide HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("pipelining") / "log"
    with running(log, "-m", "dcao_server.main", "serve", DCAO_ACCESS_LOG="off") as server:
        server.wait_for("serving")
        yield server


def resident(server: Server) -> int:
    """Bytes of memory that the process has."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096


def flood(server: Server, data: bytes, connections: int, seconds: float) -> tuple[list[socket.socket], int]:
    """Sends for some time over many connections and reads nothing; how many bytes were taken."""
    opened = [server.connect() for _ in range(connections)]
    sent = 0
    for connection in opened:
        connection.setblocking(False)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for connection in opened:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                sent += connection.send(data)
        time.sleep(0.001)
    return opened, sent


@pytest.mark.parametrize(
    "data",
    [
        REQUEST * 1000,
        (CHUNKED + b"2\r\n{}\r\n0\r\n\r\n") * 500,
        REQUEST.replace(b"\r\n", b"\n") * 1000,
        b"\r\n" * 50_000,
    ],
    ids=["requests", "chunked bodies", "bare line feeds", "empty lines"],
)
def test_a_client_that_sends_and_never_reads_costs_little(server: Server, data: bytes) -> None:
    before = resident(server)
    opened, _ = flood(server, data, 20, 1.5)
    try:
        asked = time.monotonic()
        with server.connect() as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - asked < 2, "others are answered meanwhile"
        assert resident(server) - before < 64 * MIB
    finally:
        for connection in opened:
            connection.close()


@pytest.mark.parametrize("size", [1, 3, 7, 50, 1000])
def test_pipelined_requests_in_pieces_of_any_size_are_all_answered(server: Server, size: int) -> None:
    body = b'{"spec":{"optimizer":"sgd","base":{"lr":0.1}},"observation":{"step":1,"rho":2.0,"gamma":1.0}}'
    head = CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(body))
    chunked = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    sent = (REQUEST + chunked + head + body + chunked) * 3 + REQUEST.replace(b"Host", b"Connection: close\r\nHost")
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(sent), size):
            connection.sendall(sent[at : at + size])
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 404 ") == 4
    assert answers.count(b"HTTP/1.1 200 ") == 9
    assert answers.count(b"HTTP/1.1 ") == 13
