"""How a controller ends: readiness first, then a drain, then the requests in flight."""

import asyncio
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.server.operation.process import running


def test_readiness_goes_first_and_requests_are_served_while_draining(tmp_path: Path) -> None:
    with running(tmp_path / "log", DCAO_DRAIN_SECONDS="1.5") as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/readyz").status_code == 200
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        ready = httpx.get(f"{server.url}/readyz")
        served = httpx.get(f"{server.url}/healthz")
        assert (ready.status_code, served.status_code) == (503, 200)
        assert served.headers["connection"] == "close"
        assert server.process.wait(10) == 0
        assert 1.4 < time.monotonic() - started < 4


def test_requests_in_flight_are_finished(tmp_path: Path) -> None:
    with running(tmp_path / "log", DCAO_DRAIN_SECONDS="0") as server:
        answers: list[httpx.Response] = []
        url = server.url
        asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/slow?seconds=1.5")))
        asking.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        asking.join(10)
        assert [answer.text for answer in answers] == ['"done"']
        assert server.process.wait(10) == 0


def test_what_takes_longer_than_the_grace_is_cut(tmp_path: Path) -> None:
    with running(tmp_path / "log", DCAO_DRAIN_SECONDS="0", DCAO_SHUTDOWN_SECONDS="1") as server:
        url = server.url
        outcome: list[object] = []

        def ask() -> None:
            try:
                outcome.append(httpx.get(f"{url}/slow?seconds=30", timeout=20).status_code)
            except httpx.HTTPError as error:
                outcome.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.5)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert time.monotonic() - started < 4
        asking.join(5)
        assert outcome[0] == 500 or isinstance(outcome[0], httpx.HTTPError)


def test_event_streams_end_by_themselves(tmp_path: Path) -> None:
    with running(tmp_path / "log", DCAO_DRAIN_SECONDS="0.3") as server:
        with httpx.stream("GET", f"{server.url}/stream", timeout=10) as response:
            server.process.send_signal(signal.SIGTERM)
            assert response.read() == b": begin\n\n: end\n\n"
        assert server.process.wait(5) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_skips_the_drain(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path / "log", DCAO_DRAIN_SECONDS="60") as server:
        assert server.url
        server.process.send_signal(number)
        server.wait_for("draining")
        server.process.send_signal(number)
        assert server.process.wait(5) == 0


def test_a_port_that_is_taken_is_said_and_ends_with_1(tmp_path: Path) -> None:
    with running(tmp_path / "log") as first:
        port = first.url.rsplit(":", 1)[1]
        with running(tmp_path / "log2", DCAO_PORT=port) as second:
            assert second.process.wait(20) == 1
            assert f"expected port {port} of 127.0.0.1 to be free" in (tmp_path / "log2").read_text()


async def test_an_open_event_stream_ends_at_once_with_a_hint_to_come_back(tmp_path: Path) -> None:
    """Not after the whole drain, in which requests still are answered."""
    with running(tmp_path / "log", "-m", "dcao_server.main", "serve", DCAO_DRAIN_SECONDS="4") as server:
        run = f"{server.url}/v1/projects/p/runs/r"
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            spec = {"optimizer": "sgd", "base": {"lr": 0.1}}
            assert (await client.put(run, json=spec)).status_code == 201
            async with client.stream("GET", run + "/events") as response:
                lines = response.aiter_lines()
                assert (await anext(lines)).startswith("retry: ")
                server.process.send_signal(signal.SIGTERM)
                began = time.monotonic()
                rest = [line async for line in lines]
                assert time.monotonic() - began < 1.5
            assert "event: bye" in rest
            assert (await client.get(run)).status_code == 200, "the drain goes on"
            async with client.stream("GET", run + "/events") as response:
                again = [line async for line in response.aiter_lines()]
            assert "event: bye" in again, "a browser goes on asking"
        assert await asyncio.to_thread(server.process.wait, 15) == 0
