"""The bad link is as bad as it says, and no worse."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.link import GOOD, Condition, Link, Links


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends everything back."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                pass

    answering: list[threading.Thread] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            answering.append(threading.Thread(target=answer, args=(connection,), daemon=True))
            answering[-1].start()

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for thread in (serving, *answering):
        thread.join(5)


@pytest.fixture
def links(echo: int) -> Iterator[Links]:
    """Closed before the server that they lead to, which waits for its connections to end."""
    links = Links()
    yield links
    links.close()


@pytest.fixture
def link(echo: int, links: Links) -> Link:
    return links.open([("127.0.0.1", echo)], seed=1)


def connect(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=5)


def ends(connection: socket.socket) -> bool:
    """Whether the connection is cut, rather than silent."""
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


def test_a_good_link_changes_nothing(link: Link) -> None:
    with connect(link) as connection:
        for size in (1, 1000, 200_000):
            connection.sendall(b"x" * size)
            received = 0
            while received < size:
                received += len(connection.recv(65536))
            assert received == size


def test_a_delay_keeps_what_it_delays(link: Link) -> None:
    link.condition = Condition(delay=(0.2, 0.2))
    with connect(link) as connection:
        started = time.monotonic()
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        assert time.monotonic() - started >= 0.4, "there and back"


def test_what_is_swallowed_never_comes_and_nothing_comes_after_it(link: Link) -> None:
    with connect(link) as connection:
        link.condition = Condition(swallow=True)
        connection.sendall(b"lost")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        link.condition = GOOD
        connection.settimeout(5)
        assert ends(connection)
    with connect(link) as fresh:
        fresh.sendall(b"hello")
        assert fresh.recv(100) == b"hello"


def test_a_reset_cuts_every_connection(link: Link) -> None:
    with connect(link) as one, connect(link) as two:
        for connection in (one, two):
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
        link.reset()
        assert ends(one)
        assert ends(two)


def test_a_truncated_chunk_is_a_beginning_and_then_the_end(link: Link) -> None:
    link.condition = Condition(truncate=1.0)
    with connect(link) as connection:
        connection.sendall(b"x" * 1000)
        assert ends(connection) or ends(connection)


def test_a_refusing_link_lets_nobody_in(link: Link) -> None:
    link.condition = Condition(refuse=True)
    for _ in range(5):
        try:
            with connect(link) as connection:
                assert ends(connection)
        except ConnectionResetError:
            pass  # so soon that not even the connection was seen


def test_a_dead_target_is_passed_over(echo: int, links: Links) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = closed.getsockname()[1]
    link = links.open([("127.0.0.1", dead), ("127.0.0.1", echo)], seed=1)
    for _ in range(6):
        with connect(link) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
