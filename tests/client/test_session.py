"""The session: with the controller, without it, and from one to the other and back."""

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from dcao_client import DcaoError, RefusedError, Session, UnreachableError
from dcao_client.journal import read_journal
from dcao_proto import Decision, Hyperparameters, Observation, PolicyChoice, Record, RunSpec
from dcao_proto.policy.why import why
from tests.components.controller import Controller

SPEC = RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1, momentum=0.9, weight_decay=5e-4), probe_interval=10)


def observations(count: int, start: int = 0) -> list[Observation]:
    """A run whose curvature wanders; the same every time."""
    generator = random.Random(7)
    seen = [
        Observation(
            step=10 * i, rho=20 * generator.lognormvariate(0, 0.4), gamma=4 * generator.random(), loss=1 / (1 + i)
        )
        for i in range(start + count)
    ]
    return seen[start:]


def bare(decision: Decision) -> Decision:
    """A decision without what depends on how it travelled."""
    return decision.model_copy(update={"replayed": False, "persisted": False})


def undisturbed(count: int, tmp_path: Path) -> list[Decision]:
    with Session(SPEC, run="undisturbed", journal_dir=tmp_path / "undisturbed") as session:
        return [bare(session.decide(o)) for o in observations(count)]


def history(url: str, run: str) -> list[Record]:
    reply = httpx.get(f"{url}/v1/projects/default/runs/{run}/decisions", params={"limit": 1000}, trust_env=False)
    return [Record.model_validate(record) for record in reply.json()["records"]]


class Network(httpx.BaseTransport):
    """Real sockets behind a switch: a test decides what becomes of each request."""

    def __init__(self, fault: Callable[[httpx.Request], None] | None = None) -> None:
        self._real = httpx.HTTPTransport()
        self.fault = fault
        self.paths: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(f"{request.method} {request.url.path.rpartition('/')[2]}")
        if self.fault is not None:
            self.fault(request)
        return self._real.handle_request(request)

    def close(self) -> None:
        self._real.close()


def down(request: httpx.Request) -> None:
    raise httpx.ConnectError("down", request=request)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_without_a_controller_every_decision_is_made_here_and_journalled(tmp_path):
    """The embedded mode: no URL, no thread, a journal that can be sent later."""
    session = Session(SPEC, run="embedded", journal_dir=tmp_path)
    decisions = [session.decide(o) for o in observations(5)]
    session.close()
    assert not session.online
    assert session.stats.in_process == 5
    header, entries = read_journal(tmp_path / "default" / "embedded.jsonl")
    assert (header.run, header.spec) == ("embedded", SPEC)
    assert [entry.decision.lr for entry in entries] == [d.lr for d in decisions]


def test_with_a_controller_decisions_are_the_same_and_in_its_history(controller: Controller, tmp_path):
    """Bit-identical to the embedded mode, stored once, in order."""
    network = Network()
    session = Session(
        SPEC, run="online", url=controller.url, journal_dir=tmp_path, deadline=10, strict=True, http=network
    )
    decisions = [session.decide(o) for o in observations(20)]
    session.finish("done")
    assert all(d.persisted and not d.replayed for d in decisions)
    assert [bare(d) for d in decisions] == undisturbed(20, tmp_path)
    records = history(controller.url, "online")
    assert [(r.attempt, r.step) for r in records] == [(1, 10 * i) for i in range(20)]
    assert [r.decision.lr for r in records] == [d.lr for d in decisions]
    assert network.paths == ["PUT online", *["POST decisions"] * 20, "POST online:finish"]
    assert not list(tmp_path.rglob("online*.jsonl"))


@pytest.mark.parametrize("outage", [(0, 8), (5, 12), (13, 20)], ids=["at the start", "in the middle", "at the end"])
def test_an_outage_changes_no_decision_and_leaves_no_hole(controller: Controller, tmp_path, outage, request):
    """Decisions during an outage are those the controller would have made; afterwards its history is complete."""
    run = f"outage-{outage[0]}"
    network = Network()
    session = Session(SPEC, run=run, url=controller.url, journal_dir=tmp_path, deadline=10, http=network)
    decisions = []
    for i, observation in enumerate(observations(20)):
        network.fault = down if outage[0] <= i < outage[1] else None
        if i == outage[1]:
            assert session.flush(20)
        decisions.append(bare(session.decide(observation)))
    network.fault = None
    assert session.flush(20)
    session.finish()
    assert decisions == undisturbed(20, tmp_path)
    records = history(controller.url, run)
    assert [r.step for r in records] == [10 * i for i in range(20)]
    assert [r.decision.lr for r in records] == [d.lr for d in decisions]
    backfilled = [r.step // 10 for r in records if r.origin == "backfill"]
    assert set(range(*outage)) <= set(backfilled)
    assert not any(r.deviates for r in records)
    assert not list(tmp_path.rglob(f"{run}*.jsonl"))


def test_a_silent_controller_costs_the_deadline_once_and_then_nothing(tmp_path):
    """A server that accepts and never answers: the first decision waits, the next do not wait at all.

    A tenth of the deadline is kept for the decision that is then made in-process.
    """

    def hang(request: httpx.Request) -> None:
        time.sleep(20.0)
        down(request)

    session = Session(
        SPEC, run="silent", url="http://127.0.0.1:9", journal_dir=tmp_path, deadline=0.05, http=Network(hang)
    )
    waits = []
    for observation in observations(20):
        started = time.perf_counter()
        session.decide(observation)
        waits.append(time.perf_counter() - started)
    # Far below the 20 s that the answer takes, however busy the machine: benchmarks measure, tests tell apart.
    assert 0.045 <= waits[0] < 5
    assert sum(waits[1:]) < 5
    assert session.stats.in_process == 20
    session.close(timeout=0.1)
    assert list(tmp_path.rglob("silent.jsonl"))


def test_an_answer_that_comes_too_late_does_no_harm(controller: Controller, tmp_path):
    """The controller stored the decision, the client decided itself: both are the same, and it is stored once."""

    def late(request: httpx.Request) -> None:
        if request.url.path.endswith("/decisions"):
            time.sleep(0.5)

    network = Network()
    session = Session(SPEC, run="late", url=controller.url, journal_dir=tmp_path, deadline=0.2, http=network)
    seen = observations(6)
    decisions = [bare(session.decide(seen[0]))]
    assert session.flush(20)
    network.fault = late
    decisions.append(bare(session.decide(seen[1])))
    network.fault = None
    wait_for(lambda: session.online)
    decisions += [bare(session.decide(o)) for o in seen[2:]]
    assert session.flush(20)
    session.finish()
    assert decisions == undisturbed(6, tmp_path)
    assert [r.step for r in history(controller.url, "late")] == [o.step for o in seen]


def test_a_strict_session_raises_instead(tmp_path):
    """For tests: the outage is an exception."""
    session = Session(
        SPEC, run="strict", url="http://127.0.0.1:9", journal_dir=tmp_path, deadline=5, strict=True, http=Network(down)
    )
    with pytest.raises(UnreachableError, match="down"):
        session.decide(observations(1)[0])
    session.close(timeout=0.1)


def test_a_run_name_that_is_taken_by_another_spec_is_refused_for_good(controller: Controller, tmp_path):
    """Training goes on in-process; the controller is not asked again; strict says why."""
    with Session(SPEC, run="taken", url=controller.url, journal_dir=tmp_path, deadline=10, strict=True) as first:
        first.decide(observations(1)[0])
    other = SPEC.model_copy(update={"policy": PolicyChoice(name="constant")})
    network = Network()
    session = Session(other, run="taken", url=controller.url, journal_dir=tmp_path, deadline=10, http=network)
    assert [session.decide(o).multipliers.lr for o in observations(5)] == [1.0] * 5
    assert network.paths == ["PUT taken"]
    session.close(timeout=0.1)
    with pytest.raises(RefusedError, match="run-conflict"):
        Session(other, run="taken", url=controller.url, journal_dir=tmp_path, deadline=10, strict=True).decide(
            observations(1)[0]
        )


def test_a_restart_without_a_checkpoint_begins_a_new_attempt(controller: Controller, tmp_path):
    """The same run name again from step 0: nothing of the first attempt is replayed, and the first is fenced off."""
    first = Session(SPEC, run="again", url=controller.url, journal_dir=tmp_path, deadline=10)
    before = [bare(first.decide(o)) for o in observations(5)]
    second = Session(SPEC, run="again", url=controller.url, journal_dir=tmp_path, deadline=10)
    after = [second.decide(o) for o in observations(5)]
    assert [d.attempt for d in after] == [2] * 5
    assert not any(d.replayed for d in after)
    assert [d.lr for d in after] == [d.lr for d in before]
    first.decide(observations(1, start=5)[0])
    assert first.decide(observations(1, start=6)[0]).lr > 0  # fenced, and goes on alone
    assert not first.online
    assert {(r.attempt, r.step) for r in history(controller.url, "again")} == {
        (a, 10 * i) for a in (1, 2) for i in range(5)
    }
    first.close(timeout=0.1)
    second.finish()


@pytest.mark.parametrize("away", [False, True], ids=["controller there", "controller away at first"])
def test_a_resume_from_a_checkpoint_goes_on_from_its_state(controller: Controller, tmp_path, away):
    """Checkpoint after 5 of 8 decisions: the new attempt repeats the last three bit for bit and then goes on."""
    run = f"resume-{away}"
    first = Session(SPEC, run=run, url=controller.url, journal_dir=tmp_path, deadline=10)
    seen = observations(12)
    decisions, saved = [], {}
    for i, observation in enumerate(seen[:8]):
        if i == 5:
            saved = first.state_dict()
        decisions.append(first.decide(observation))
    network = Network(down if away else None)
    second = Session(SPEC, run=run, url=controller.url, journal_dir=tmp_path, deadline=10, http=network)
    second.load_state_dict(saved)
    again = [second.decide(o) for o in seen[5:10]]
    network.fault = None
    assert second.flush(20)
    again += [second.decide(o) for o in seen[10:]]
    assert [(d.lr, d.momentum, d.version) for d in again[:3]] == [(d.lr, d.momentum, d.version) for d in decisions[5:]]
    assert second.attempt == 2
    steps = [(r.attempt, r.step) for r in history(controller.url, run)]
    assert steps == [(1, o.step) for o in seen[:8]] + [(2, o.step) for o in seen[5:]]
    second.finish()
    first.close(timeout=0.1)


def test_a_checkpoint_of_another_spec_is_refused(tmp_path):
    """The message says that the specifications differ."""
    one = Session(SPEC, run="r", journal_dir=tmp_path)
    two = Session(SPEC.model_copy(update={"probe_interval": 11}), run="r", journal_dir=tmp_path)
    with pytest.raises(DcaoError, match="another specification"):
        two.load_state_dict(one.state_dict())


@pytest.mark.parametrize("away", [False, True])
def test_a_run_resumed_in_the_middle_of_a_schedule_is_the_same_run(controller: Controller, tmp_path, away):
    """Frameworks attach when the optimizer has been loaded: the schedule has moved its rate since the run began."""
    run = f"scheduled-{away}"
    seen = observations(6)
    first = Session(SPEC, run=run, url=None if away else controller.url, journal_dir=tmp_path, deadline=10)
    decisions = [first.decide(o) for o in seen[:4]]
    later = SPEC.model_copy(update={"base": SPEC.base.model_copy(update={"lr": SPEC.base.lr / 3})})
    second = Session(later, run=run, url=None if away else controller.url, journal_dir=tmp_path, deadline=10)
    second.load_state_dict(first.state_dict())
    assert second.spec == SPEC
    again = second.decide(seen[4])
    assert (second.attempt, again.version) == (2, decisions[-1].version + 1)
    assert away or [r.attempt for r in history(controller.url, run)] == [1, 1, 1, 1, 2]
    decided = Session(later, run=run, journal_dir=tmp_path)
    decided.decide(seen[0])
    with pytest.raises(DcaoError, match="another specification"):
        decided.load_state_dict(first.state_dict())


def test_a_deleted_run_is_declared_again_and_gets_back_what_the_client_has(controller: Controller, tmp_path):
    """The store lost the run: the client's ring fills the history again."""
    session = Session(SPEC, run="lost", url=controller.url, journal_dir=tmp_path, deadline=10)
    seen = observations(8)
    for observation in seen[:5]:
        session.decide(observation)
    httpx.delete(f"{controller.url}/v1/projects/default/runs/lost", trust_env=False).raise_for_status()
    for observation in seen[5:]:
        session.decide(observation)
        wait_for(lambda: session.online)
    assert [r.step for r in history(controller.url, "lost")] == [o.step for o in seen]
    session.finish()


def test_an_unwritable_journal_never_raises(tmp_path):
    """Training does not care whether the disk is full."""
    session = Session(SPEC, run="r", journal_dir="/dev/null/nowhere")
    assert session.decide(observations(1)[0]).lr > 0
    session.close()


def test_a_journal_is_never_overwritten_and_a_cut_last_line_is_left_out(tmp_path):
    """A second process of the same run takes another file; a crash in the middle of a line loses that line only."""
    for _ in range(2):
        with Session(SPEC, run="r", journal_dir=tmp_path) as session:
            session.decide(observations(1)[0])
    files = sorted(tmp_path.rglob("*.jsonl"))
    assert [f.name for f in files] == ["r.1.jsonl", "r.jsonl"]
    files[0].write_bytes(files[0].read_bytes() + b'{"observation": {"st')
    assert len(list(read_journal(files[0])[1])) == 1
    files[0].write_bytes(b"not a journal\n")
    with pytest.raises(DcaoError, match="journal header"):
        read_journal(files[0])


def test_the_jitter_leaves_the_global_generator_alone(tmp_path):
    """Training's random numbers are training's."""
    random.seed(3)
    expected = random.Random(3).random()
    session = Session(SPEC, run="r", url="http://127.0.0.1:9", journal_dir=tmp_path, http=Network(down))
    for observation in observations(3):
        session.decide(observation)
    session.close(timeout=0.05)
    assert random.random() == expected


def test_the_log_says_why_where_something_else_drives_a_run(tmp_path, caplog):
    """A line of information where the cause is another one, else one for debugging; no journal and no
    checkpoint carries what an older version could not read."""
    caplog.set_level(logging.DEBUG, logger="dcao")
    with Session(SPEC, run="why", journal_dir=tmp_path) as session:
        first, second = (session.decide(o) for o in observations(2))
        assert session.state_dict()["last"].get("causes") is None
        journal = session.journal_path
    told = [record for record in caplog.records if record.getMessage().startswith("step ")]
    same = [c.code for c in first.causes or ()] == [c.code for c in second.causes or ()]
    assert told[0].levelno == logging.INFO
    assert told[1].levelno == (logging.DEBUG if same and first.reasons == second.reasons else logging.INFO)
    assert told[1].getMessage().endswith(" ".join(why(second, first)))
    assert journal is not None
    assert '"causes"' not in journal.read_text()
