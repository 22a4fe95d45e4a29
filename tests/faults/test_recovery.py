"""The faults that a storm found, one at a time: each made on purpose, each followed by a complete history."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import httpx
import pytest

from dcao_client.session import Session
from dcao_proto import Decision, Observation
from tests.components.controller import Controller
from tests.components.redis_server import RedisServer
from tests.faults.oracle import judge, read_histories
from tests.faults.workload import PROJECT, answer_of, observations, run_name, spec_of
from tests.faults.writers import Log

SEED, WRITER = 11, 0
Fault = Callable[[httpx.Request], None]


class Network(httpx.BaseTransport):
    """Real sockets; a test may lose an answer after the controller has given it, or slow every request down."""

    def __init__(self) -> None:
        self._real = httpx.HTTPTransport()
        self.lose_answers = 0
        self.slow = 0.0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        time.sleep(self.slow)
        response = self._real.handle_request(request)
        if self.lose_answers and request.url.path.endswith("/decisions"):
            self.lose_answers -= 1
            response.read()
            raise httpx.ReadError("the answer was lost", request=request)
        return response

    def close(self) -> None:
        self._real.close()


class Run:
    """A session, what it applied, and the observations that are still to come."""

    def __init__(self, controller: Controller, folder: Path) -> None:
        self.url = controller.url
        self.network = Network()
        self.session = Session(
            spec_of(WRITER),
            run=run_name(WRITER),
            project=PROJECT,
            url=controller.url,
            deadline=5,
            journal_dir=folder / "journal",
            http=self.network,
        )
        self.log = Log(WRITER)
        self._coming: Iterator[Observation] = observations(SEED, WRITER)

    def decide(self, count: int) -> list[Decision]:
        decisions = [self.session.decide(observation) for observation in islice(self._coming, count)]
        self.log.applied += [{"step": d.step, **answer_of(d)} for d in decisions]
        return decisions

    def check(self) -> None:
        """Everything that was applied is in the history, once, in order, and as the law decides."""
        self.log.delivered = self.session.flush(30)
        self.session.close()
        verdict = judge([self.log], read_histories(self.url, [WRITER]), SEED)
        assert verdict.clean, verdict


@pytest.fixture
def run(mortal_controller: Controller, tmp_path: Path) -> Iterator[Run]:
    run = Run(mortal_controller, tmp_path)
    yield run
    run.session.close()


def copied(redis: RedisServer) -> dict[bytes, bytes]:
    """All keys of the run as they are now."""
    with redis.client() as client:
        return {key: client.dump(key) for key in client.scan_iter(match="*{storm/*")}


def put_back(redis: RedisServer, keys: dict[bytes, bytes]) -> None:
    """What a crash that loses the last second does: the store is as it was."""
    with redis.client() as client:
        for key in client.scan_iter(match="*{storm/*"):
            client.delete(key)
        for key, value in keys.items():
            client.restore(key, 0, value)


def test_decisions_that_the_store_lost_are_sent_again(run: Run, mortal_redis: RedisServer) -> None:
    run.decide(10)
    before = copied(mortal_redis)
    run.decide(10)
    put_back(mortal_redis, before)
    run.decide(3)
    run.check()


def test_they_are_sent_again_even_if_the_answer_that_says_so_is_lost(run: Run, mortal_redis: RedisServer) -> None:
    """After it, the store's newest step is the newest again; only the count tells that there is a hole."""
    run.decide(10)
    before = copied(mortal_redis)
    run.decide(10)
    put_back(mortal_redis, before)
    run.network.lose_answers = 1
    run.decide(3)
    run.check()


def test_a_run_that_the_store_lost_altogether_comes_back(run: Run, mortal_redis: RedisServer) -> None:
    run.decide(20)
    put_back(mortal_redis, {})
    run.decide(3)
    run.check()


def test_a_run_that_decides_faster_than_it_delivers_comes_back_to_the_controller(run: Run) -> None:
    """What waits is delivered on the way, instead of growing while it is delivered."""
    run.network.slow = 0.05
    run.decide(5)
    run.network.lose_answers = 1
    run.decide(1)
    deadline = time.monotonic() + 20
    while not run.decide(1)[0].persisted:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.check()


def test_a_store_that_trimmed_its_history_is_not_asked_about_it_for_ever(run: Run, mortal_redis: RedisServer) -> None:
    run.decide(300)  # more than the session keeps
    with mortal_redis.client() as client:
        (stream,) = client.scan_iter(match="*:h:1")
        client.xtrim(stream, maxlen=200, approximate=False)
        run.network.lose_answers = 1
        run.decide(2)
        assert run.session.flush(20)
        assert client.xlen(stream) >= 256, "what the session still has is back"
        run.network.lose_answers = 1
        run.decide(2)
        assert run.session.flush(20)
        assert client.xlen(stream) < 304
    assert run.session.online


def test_a_client_that_echoes_nothing_gets_no_second_decision_while_the_store_is_away(
    mortal_controller: Controller, mortal_redis: RedisServer, run: Run
) -> None:
    """Only the store knows that the step was decided; from the state after it the law would decide otherwise."""
    (decision,) = run.decide(1)
    (observation,) = islice(observations(SEED, WRITER), 1)
    url = f"{mortal_controller.url}/v1/projects/{PROJECT}/runs/{run_name(WRITER)}/decisions"
    again = httpx.post(url, json=observation.wire(), trust_env=False)
    assert answer_of(Decision.model_validate_json(again.content)) == answer_of(decision)
    mortal_redis.kill()
    refused = httpx.post(url, json=observation.wire(), trust_env=False)
    assert refused.status_code == 503
    assert "echo state and version" in refused.json()["detail"]
    mortal_redis.start()
