"""The client does not believe what it is told: one wrong answer of each kind, from a real server on loopback."""

import gzip
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dcao_client import Session, dialogue, patience, transport
from dcao_client.transport import retry_after
from dcao_proto import Decision, Observation
from dcao_proto.policy import bind
from dcao_proto.policy.registry import bind_token
from tests.client.test_session import SPEC, bare, observations, undisturbed

Answer = tuple[int, dict[str, str], bytes]


class Controller:
    """Answers as it should, except where `change` says otherwise."""

    def __init__(self) -> None:
        self.change: Callable[[str, Answer], Answer | None] = lambda path, answer: answer
        self.paths: list[str] = []
        self.asked: list[str] = []
        self.backfilled: list[dict[str, Any]] = []
        self.stop = threading.Event()
        self.steps: set[int] = set()  # in the history
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                kind = outer.kind_of(self.command, self.path)
                outer.paths.append(kind)
                outer.asked.append(self.path)
                answer = outer.change(kind, (200, {}, json.dumps(outer.right(kind, self.path, body)).encode()))
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                for name, value in {"content-length": str(len(answer[2])), **answer[1]}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer[2])
                while type(answer[2]) is not bytes and not outer.stop.wait(0.05):
                    self.wfile.write(b" ")

            do_GET = do_PUT = do_POST = do  # noqa: N815  (the library's names)

            def log_message(self, *args: object) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """The client hung up, as it should."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @staticmethod
    def kind_of(method: str, path: str) -> str:
        for end in (":backfill", ":finish", "/decisions", "/attempts"):
            if path.endswith(end):
                return end[1:]
        return method

    def right(self, kind: str, path: str, body: bytes) -> dict[str, Any]:
        """What a controller that agrees to everything says."""
        if kind == "decisions":
            seen = Observation.model_validate_json(body)
            decision = bind_token(seen.state).decide_from_token(seen)
            self.steps.add(seen.step)
            return decision.model_copy(update={"persisted": True}).wire()
        if kind == "backfill":
            entries = json.loads(body)["entries"]
            self.backfilled += entries
            self.steps.update(entry["observation"]["step"] for entry in entries)
            return {"stored": len(entries), "replayed": 0, "version": 1}
        if kind == "attempts":
            return {"attempt": json.loads(body).get("attempt") or 2, "version": 0}
        return {
            "project": path.split("/")[3], "run": path.split("/")[5], "spec": SPEC.wire(), "status": "created",
            "attempt": 1, "created_at": 0.0, "updated_at": 0.0,
            "version": len(self.steps), "decisions": len(self.steps),
            **({"last_step": max(self.steps)} if self.steps else {}),
        }  # fmt: skip

    def close(self) -> None:
        self.stop.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def controller() -> Iterator[Controller]:
    server = Controller()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds."""
    monkeypatch.setattr(patience, "FIRST_RETRY", 0.001)
    monkeypatch.setattr(patience, "LAST_RETRY", 0.002)


@pytest.fixture
def session(controller: Controller, tmp_path) -> Iterator[Session]:
    session = Session(SPEC, run="r", url=controller.url, journal_dir=tmp_path / "journal", deadline=5)
    yield session
    session.close(timeout=0.2)


def change_decisions(**fields: object) -> Callable[[str, Answer], Answer]:
    def change(kind: str, answer: Answer) -> Answer:
        if kind != "decisions":
            return answer
        return answer[0], answer[1], json.dumps(json.loads(answer[2]) | fields).encode()

    return change


def factors(**changed: float) -> dict[str, float]:
    return {"lr": 1.0, "momentum": 1.0, "weight_decay": 1.0} | changed


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"lr": 1000.0, "multipliers": factors(lr=1e4)}, "multiplier on lr"),
        ({"lr": 0.0, "multipliers": factors(lr=0.0)}, "multiplier on lr"),
        ({"lr": 1e299, "multipliers": factors(lr=1e300)}, "multiplier on lr"),
        ({"momentum": 0.99999999}, "momentum"),
        ({"weight_decay": 500.0, "multipliers": factors(weight_decay=1e6)}, "multiplier on weight_decay"),
        ({"next_probe_in": 10**18}, "next_probe_in"),
        ({"step": 7}, "step"),
        ({"attempt": 9}, "attempt"),
        ({"policy": "paper@1"}, "policy"),
        ({"lr": float("nan")}, "unreadable"),
        ({"lr": None}, "unreadable"),
        ({"regime": "splendid"}, "unreadable"),
    ],
)
def test_an_answer_that_the_run_does_not_allow_is_treated_like_none(
    controller, session, tmp_path, caplog, fields, kind
):
    """Decided in-process as without a controller, counted, and named in the log once."""
    controller.change = change_decisions(**fields)
    with caplog.at_level(logging.WARNING, "dcao"):
        decisions = []
        for observation in observations(6):
            decisions.append(bare(session.decide(observation)))
            session.flush(0.5)
    assert decisions == undisturbed(6, tmp_path)
    assert session.stats.refused_answers >= 2
    assert session.stats.in_process == 6
    named = [record.message for record in caplog.records if "is not used" in record.message]
    assert len(named) == 1
    assert kind in named[0] or "expected a Decision" in named[0]


def token_of(**spec: object) -> str:
    return bind(SPEC.model_copy(update=spec)).initial_token()


@pytest.mark.parametrize(
    "state", ["x", "", "dcao2.a.b.00000000", token_of(probe_interval=99), token_of()[:-1], "x" * 60_000]
)
def test_a_state_that_cannot_be_read_is_refused_when_it_arrives(controller, session, tmp_path, caplog, state):
    """The decisions are used, the last good state stays, and what follows alone goes on from there."""
    seen = observations(6)
    decisions = [session.decide(o) for o in seen[:2]]
    good = session.state_dict()["token"]
    controller.change = change_decisions(state=state)
    with caplog.at_level(logging.WARNING, "dcao"):
        decisions += [session.decide(o) for o in seen[2:4]]
    assert session.stats.in_process == 0
    assert session.state_dict()["token"] == good
    assert sum("cannot be read" in record.message for record in caplog.records) == 1
    controller.change = lambda path, answer: None
    alone = [session.decide(o) for o in seen[4:]]
    assert session.stats.in_process == 2
    bound = bind(SPEC)
    first = bound.decide(seen[4], bound.state_of(good), decisions[1].version)
    assert alone[0].lr == first.lr


@pytest.mark.parametrize("ahead", [2, 100, 2**53 - 2])
def test_a_version_that_counts_more_than_was_decided_is_not_taken(controller, session, tmp_path, ahead):
    """Echoed, it would be ahead of every store's, and a right controller would take nothing of this run any more."""
    seen = observations(6)
    decisions = [session.decide(seen[0])]

    def further(kind: str, answer: Answer) -> Answer:
        if kind != "decisions":
            return answer
        decision = json.loads(answer[2])
        return answer[0], answer[1], json.dumps(decision | {"version": decision["version"] - 1 + ahead}).encode()

    controller.change = further
    for observation in seen[1:4]:
        decisions.append(session.decide(observation))
        session.flush(0.3)
    controller.change = lambda kind, answer: answer
    assert session.flush(5)
    decisions += [session.decide(o) for o in seen[4:]]
    assert [bare(d) for d in decisions] == undisturbed(6, tmp_path)
    assert session.stats.refused_answers >= 2


def test_nobodys_cookies_are_kept(controller, session):
    """They would pile up, and make every request larger until no server takes it."""

    def sweet(kind: str, answer: Answer) -> Answer:
        return answer[0], answer[1] | {"set-cookie": f"c{time.monotonic_ns()}=" + "x" * 3000}, answer[2]

    controller.change = sweet
    for observation in observations(60):
        session.decide(observation)
    assert session.stats.in_process == 0


def test_a_newer_controller_is_understood(controller, session, tmp_path):
    """Unknown fields of answers are left out: decisions go over the wire as ever, and are the same."""

    def newer(kind: str, answer: Answer) -> Answer:
        return answer[0], answer[1], json.dumps(json.loads(answer[2]) | {"mood": {"x": [1]}}).encode()

    controller.change = newer
    assert [bare(session.decide(o)) for o in observations(5)] == undisturbed(5, tmp_path)
    assert session.stats.in_process == 0


def test_an_older_controller_that_lacks_a_field_of_ours_is_waited_for(controller, session, tmp_path):
    """It refuses what it does not know; nothing is set aside, and all is delivered once it was upgraded."""
    problem = {
        "type": "https://dcao.dev/problems/invalid", "title": "t", "status": 422, "detail": "d", "retryable": False,
        "errors": [{"loc": ["body", "trust"], "msg": "m", "type": "extra_forbidden"}],
    }  # fmt: skip
    controller.change = lambda kind, answer: (422, {}, json.dumps(problem).encode())
    assert [bare(session.decide(o)) for o in observations(5)] == undisturbed(5, tmp_path)
    assert not session.flush(0.3)
    controller.change = lambda kind, answer: answer
    assert session.flush(10)
    assert len(controller.backfilled) == 5
    assert session.online


SIZES = {
    "gzip bomb": ({"content-encoding": "gzip"}, gzip.compress(b"[" * 50_000_000)),
    "lists": ({}, b'{"a":[' + b"[]," * 2_000_000 + b"[]]}"),
    "text": ({}, b'"' + b"x" * 50_000_000 + b'"'),
    "nested": ({}, b"[" * 250_000),
    "half": ({"content-length": "5000000"}, b"{"),
    "unknown encoding": ({"content-encoding": "br"}, b"x"),
    "broken gzip": ({"content-encoding": "gzip"}, b"x" * 100),
}


@pytest.mark.parametrize("name", SIZES)
def test_an_answer_of_any_size_costs_no_more_than_the_deadline(controller, tmp_path, name):
    """Neither on the wire, nor when it is inflated, nor when what was refused is described."""
    headers, body = SIZES[name]
    controller.change = lambda kind, answer: (200, headers, body) if kind == "decisions" else answer
    session = Session(SPEC, run="r", url=controller.url, journal_dir=tmp_path / "j", deadline=0.25)
    decisions = [bare(session.decide(o)) for o in observations(3)]
    assert decisions == undisturbed(3, tmp_path)
    assert session.stats.longest_wait < 0.25 + 0.25  # 50 ms where it is measured: test_hostile_controller
    session.close(timeout=0.1)


def test_gzip_that_fits_is_read(controller, session):
    """A proxy may compress what nobody asked it to."""
    controller.change = lambda kind, answer: (200, {"content-encoding": "gzip"}, gzip.compress(answer[2]))
    assert session.decide(observations(1)[0]).persisted


def test_an_answer_that_trickles_is_over_when_its_time_is_up(controller, tmp_path, monkeypatch):
    """A byte a second keeps nobody away: the request's time is for all of it."""
    monkeypatch.setattr(dialogue, "TIMEOUT", 0.3)
    stop = controller.stop

    class Trickle(bytes):
        """What the server writes piece by piece."""

    def trickle(kind: str, answer: Answer) -> Answer:
        return (200, {"content-length": "100"}, Trickle(b"{")) if kind == "decisions" and not stop.is_set() else answer

    controller.change = trickle
    session = Session(SPEC, run="r", url=controller.url, journal_dir=tmp_path, deadline=0.1)
    session.decide(observations(1)[0])
    assert session.stats.in_process == 1
    stop.set()
    assert session.flush(5)
    session.close()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1e12", 60), ("1e308", 60), ("inf", 60), ("1000000", 60), ("nan", None), ("-5", 0), ("2", 2), ("soon", None),
     (None, None), ("9" * 5000, 60)],
)  # fmt: skip
def test_retry_after_is_at_most_a_minute(value, seconds):
    """And nonsense is none."""
    assert retry_after(value) == seconds


def test_a_retry_after_beyond_all_time_does_not_kill_the_courier(controller, session, monkeypatch):
    """The client is back when the controller is."""
    monkeypatch.setattr(transport, "MAX_RETRY_AFTER", 0.05)
    values = itertools.cycle(["1e12", "1e308", "inf"])
    controller.change = lambda kind, answer: (503, {"retry-after": next(values)}, b"")
    for observation in observations(3):
        session.decide(observation)
        time.sleep(0.02)
    controller.change = lambda kind, answer: answer
    assert session.flush(10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_courier_that_dies_is_noticed_and_replaced(controller, session, caplog):
    """Of whatever it died; the decision at hand is made here, and the next ones are the controller's again."""
    seen = observations(4)
    session.decide(seen[0])
    ask = dialogue.Dialogue.ask

    def die(*args: object) -> None:
        raise SystemExit

    dialogue.Dialogue.ask = die
    try:
        session.settings.__dict__["deadline"] = 0.2
        session.decide(seen[1])
    finally:
        dialogue.Dialogue.ask = ask
    time.sleep(0.05)
    session.settings.__dict__["deadline"] = 5
    with caplog.at_level(logging.WARNING, "dcao"):
        session.decide(seen[2])
    assert "died; starting another" in caplog.text
    assert session.flush(10)
    assert session.decide(seen[3]).persisted


@pytest.mark.parametrize("status", [400, 404, 405, 413, 422])
def test_one_refusal_at_registration_is_not_for_ever(controller, session, status):
    """One replica that lags behind in a rolling update does that."""
    seen = observations(4)
    controller.change = lambda kind, answer: (status, {}, b"no") if kind == "PUT" else answer
    session.decide(seen[0])
    assert session.stats.in_process == 1
    controller.change = lambda kind, answer: answer
    assert session.flush(10)
    assert session.decide(seen[1]).persisted


def test_a_courier_counts_what_it_does_not_believe_about_a_run(controller, session, tmp_path):
    """A registration about another run, an attempt beyond reason, a backfill that does not add up."""
    for fields in ({"run": "other"}, {"attempt": 10**15}, {"attempt": 0}):

        def wrong(kind: str, answer: Answer, fields: dict[str, object] = fields) -> Answer:
            return answer[0], answer[1], json.dumps(json.loads(answer[2]) | fields).encode()

        controller.change = lambda kind, answer: wrong(kind, answer) if kind == "PUT" else answer
        session.decide(Observation(step=1000, rho=1.0, gamma=1.0))
        session.flush(0.1)
        assert session.attempt == 1
    controller.change = lambda kind, answer: (200, {}, b'{"stored": 0, "replayed": 0, "version": 1}')
    assert not session.flush(0.2)
    controller.change = lambda kind, answer: answer
    assert session.flush(10)


def test_what_the_store_loses_while_a_backlog_is_delivered_is_sent_again(controller, session):
    """The backfill sets the version right, so no later answer shows the hole; the number of decisions does."""
    seen = observations(8)
    for observation in seen[:5]:
        session.decide(observation)
    controller.change = lambda kind, answer: None
    for observation in seen[5:]:
        session.decide(observation)
    lost = {seen[3].step, seen[4].step}

    def forgetful(kind: str, answer: Answer) -> Answer:
        if kind == "PUT":
            answer = (
                answer[0],
                answer[1],
                json.dumps(json.loads(answer[2]) | {"version": 8 if not lost else 5}).encode(),
            )
            controller.steps -= lost
            lost.clear()
        return answer

    controller.change = forgetful
    assert session.flush(10)
    assert controller.steps == {observation.step for observation in seen}


def test_a_decision_is_a_decision(controller, session):
    """The plain case: nothing of the above happens to a controller that answers as it should."""
    decision = session.decide(observations(1)[0])
    assert isinstance(decision, Decision)
    assert decision.persisted
    assert controller.paths[:2] == ["PUT", "decisions"]
