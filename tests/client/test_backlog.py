"""What waits for the controller: on disk, bounded in memory, delivered where it can be, and never silently lost."""

import errno
import json
import logging
from collections.abc import Sequence

import httpx
import pytest

from dcao_client import Session, backlog, journal, patience
from dcao_client.backlog import Backlog, deliver, merged
from dcao_client.errors import RefusedError
from dcao_client.journal import Journal, JournalHeader, read_journal
from dcao_client.lineage import Lineage
from dcao_client.once import Once
from dcao_proto import JournalEntry, Observation
from dcao_proto.policy import bind
from tests.client.test_cli import dcao
from tests.client.test_session import SPEC, Network, bare, down, history, observations
from tests.components.controller import Controller

HEADER = JournalHeader(project="default", run="r", spec=SPEC)


def entries(count: int) -> list[JournalEntry]:
    """Decisions of one run, each with its token."""
    lineage = Lineage(bind(SPEC))
    stamped = (lineage.stamp(seen) for seen in observations(count))
    return [lineage.advance(seen, lineage.decide(seen)) for seen in stamped]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of eight."""
    monkeypatch.setattr(backlog, "WINDOW", 8)
    monkeypatch.setattr(backlog, "CHUNK", 4)


def test_memory_holds_a_window_and_the_journal_the_rest(small, tmp_path):
    """Whatever waits comes out in order and as it went in, tokens included."""
    waiting = Backlog(Journal(tmp_path, HEADER, Once()), Once())
    made = entries(50)
    for entry in made:
        waiting.append(entry)
    assert len(waiting) == 50
    assert len(waiting._front) == 8
    out: list[JournalEntry] = []
    while len(waiting):
        chunk = waiting.oldest(4)
        out += chunk
        waiting.take(chunk)
        assert len(waiting._front) <= 12
    assert out == made
    assert waiting.dropped == 0
    assert not list(tmp_path.rglob("*.jsonl"))


def test_what_must_be_dropped_is_counted_and_said_once(small, tmp_path, caplog):
    """Journal full and memory full: the newest are applied, and missing."""
    full = Journal(tmp_path, HEADER, Once(), max_bytes=30_000)
    waiting = Backlog(full, Once())
    with caplog.at_level(logging.WARNING, "dcao"):
        for entry in entries(60):
            waiting.append(entry)
    assert 0 < full.lost < 60
    assert waiting.dropped == full.lost
    assert len(waiting) + waiting.dropped == 60
    full.close()
    assert len(caplog.records) == 2
    assert "DCAO_JOURNAL_MAX_MIB" in caplog.text


def test_a_journal_that_somebody_removed_is_counted(small, tmp_path):
    """What was in memory is still there."""
    kept = Journal(tmp_path, HEADER, Once())
    waiting = Backlog(kept, Once())
    for entry in entries(30):
        waiting.append(entry)
    next(tmp_path.rglob("*.jsonl")).unlink()
    waiting.take(waiting.oldest(8))
    assert waiting.oldest() == []
    assert waiting.dropped == 22
    kept.close()


def test_a_damaged_line_costs_itself_and_nothing_behind_it(small, tmp_path):
    """A bad sector, a hand that edited: the rest is delivered, and what is missing is counted."""
    kept = Journal(tmp_path, HEADER, Once())
    waiting = Backlog(kept, Once())
    made = entries(30)
    for entry in made:
        waiting.append(entry)
    path = next(tmp_path.rglob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[15] = b"x" * (len(lines[15]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    delivered = []
    while chunk := waiting.oldest(8):
        delivered += [entry.decision.step for entry in chunk]
        waiting.take(chunk)
    assert len(delivered) == 29
    assert waiting.dropped == 1
    assert len(waiting) == 0
    kept.close()


class Full(journal.FileIO):
    """A disk with so many bytes left; a write that does not fit is written in part, as the system does."""

    left = 0

    def write(self, data: bytes) -> int:
        if Full.left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = super().write(bytes(data)[: Full.left])
        Full.left -= taken
        return taken


@pytest.mark.parametrize("online", [False, True], ids=["embedded", "controller away"])
def test_a_full_disk_raises_nowhere_and_is_said(tmp_path, monkeypatch, caplog, online):
    """Neither in decide nor at the end; what was written is whole, and what was not is counted."""
    monkeypatch.setattr(journal, "FileIO", Full)
    Full.left = 20_000
    where = {"url": "http://127.0.0.1:9", "http": Network(down)} if online else {}
    with caplog.at_level(logging.WARNING, "dcao"), Session(SPEC, run="r", journal_dir=tmp_path, **where) as session:
        decisions = [bare(session.decide(o)) for o in observations(40)]
    assert "No space left" in caplog.text
    kept = list(read_journal(next(tmp_path.rglob("r.jsonl")))[1])
    assert 0 < len(kept) < 40
    assert len(kept) + session._outbox.journal.lost == 40
    assert [entry.decision.lr for entry in kept] == [d.lr for d in decisions[: len(kept)]]


def test_the_error_of_training_is_the_one_that_is_reported(tmp_path, monkeypatch):
    """Not ours on top of it, whatever fails at the end."""
    close = Journal.close

    def fail(self: Journal) -> None:
        close(self)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "close", fail)
    session = Session(SPEC, run="r", journal_dir=tmp_path)

    def train() -> None:
        with session:
            session.decide(observations(1)[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert not session.flush(0)


def test_a_law_that_fails_holds_the_values(tmp_path, monkeypatch, caplog):
    """Nothing of ours raises into training: the last factors on the base of now."""
    session = Session(SPEC, run="r", journal_dir=tmp_path)
    before = session.decide(observations(1)[0])
    monkeypatch.setattr(Lineage, "decide", lambda *_: (_ for _ in ()).throw(OverflowError("secret")))
    with caplog.at_level(logging.WARNING, "dcao"):
        held = [session.decide(o) for o in observations(3, start=1)]
    assert [(d.lr, d.momentum, d.regime) for d in held] == [(before.lr, before.momentum, "held")] * 3
    assert sum("no decision could be made" in r.getMessage() for r in caplog.records) == 1
    assert "secret" not in caplog.text
    session.close()


@pytest.mark.parametrize("steps", [(0, 10, 10, 20), (0, 10, 20, 0)])
def test_steps_that_are_decided_twice_poison_nothing(controller: Controller, tmp_path, steps):
    """A step keeps its decision, alone as with the controller; everything is delivered, and flush says so."""
    run, network = f"twice-{'-'.join(map(str, steps))}", Network(down)
    session = Session(SPEC, run=run, url=controller.url, journal_dir=tmp_path, deadline=10, http=network)
    by_step = {o.step: o for o in observations(3)}
    decisions = [session.decide(by_step[step]) for step in steps]
    network.fault = None
    assert session.flush(20)
    records = history(controller.url, run)
    assert [r.step for r in records] == [0, 10, 20]
    applied = {d.step: d.lr for d in decisions}
    assert {r.step: r.decision.lr for r in records} == applied
    assert sum(d.replayed for d in decisions) == 1
    assert session.finish()


def test_what_the_controller_refuses_is_set_aside_and_the_rest_delivered(controller: Controller, tmp_path, caplog):
    """In a file that the log names; flush and finish say that not everything is there."""
    network = Network(down)
    session = Session(SPEC, run="apart", url=controller.url, journal_dir=tmp_path, deadline=10, http=network)
    for observation in observations(20):
        session.decide(observation)
    bad = session._outbox.backlog._front[7]
    spoilt = bad.decision.model_copy(update={"step": 71})  # the controller wants both to be of one step
    session._outbox.backlog._front[7] = JournalEntry.model_construct(observation=bad.observation, decision=spoilt)
    network.fault = None
    with caplog.at_level(logging.WARNING, "dcao"):
        assert not session.flush(20)
        assert not session.finish()
    assert [r.step for r in history(controller.url, "apart")] == [10 * i for i in range(20) if i != 7]
    aside = next(tmp_path.rglob("apart.refused.jsonl"))
    assert str(aside) in caplog.text
    assert [entry.observation.step for entry in read_journal(aside)[1]] == [70]


def send_all_but(*bad: int):
    """A controller that refuses every call with one of these steps in it."""
    calls: list[list[int]] = []

    def send(part: Sequence[JournalEntry]) -> None:
        calls.append([entry.decision.step // 10 for entry in part])
        if set(calls[-1]) & set(bad):
            raise RefusedError("invalid", 422, "no")

    return send, calls


@pytest.mark.parametrize("bad", [(), (0,), (19,), (3, 4, 11), tuple(range(0, 20, 3))])
def test_halving_delivers_all_that_can_be(bad):
    """Each entry is either accepted or refused by itself."""
    made = entries(20)
    send, _ = send_all_but(*bad)
    result = deliver(made, send)
    assert {e.decision.step // 10 for e in result.refused} == set(bad)
    assert len(result.accepted) + len(result.refused) == 20


def test_a_controller_that_takes_nothing_is_not_asked_for_ever():
    """A dozen refusals and nothing accepted: it is the controller."""
    send, calls = send_all_but(*range(20))
    result = deliver(entries(20), send)
    assert not result.accepted
    assert len(calls) == backlog.GIVE_UP


def test_merging_keeps_the_first_of_each_step_in_order():
    """The first decision of a step is the one that counts."""
    made = entries(5)
    again = [JournalEntry.model_construct(observation=e.observation, decision=e.decision) for e in made]
    out = merged(reversed(made), again)
    assert [id(entry) for entry in out] == [id(entry) for entry in made]


def test_a_restart_before_the_first_answer_keeps_what_was_decided(controller: Controller, tmp_path):
    """Those decisions have no attempt of their own: their file is kept, another one takes what comes next."""
    network = Network(down)
    session = Session(SPEC, run="early", url=controller.url, journal_dir=tmp_path, deadline=10, http=network)
    saved = session.state_dict()
    for observation in observations(3):
        session.decide(observation)
    session.load_state_dict(saved)
    session.decide(observations(1)[0])
    network.fault = None
    session.flush(20)
    session.close()
    assert len(list(read_journal(next(tmp_path.rglob("early.jsonl")))[1])) == 3
    assert not list(tmp_path.rglob("early.1.jsonl"))


def test_sync_marks_nothing_that_is_right(controller: Controller, tmp_path):
    """450 decisions are three calls; each begins with the token that it stands on, also from a journal of old."""
    with Session(SPEC, run="long", journal_dir=tmp_path) as session:
        decisions = [session.decide(o) for o in observations(450)]
    file = next(tmp_path.rglob("long.jsonl"))
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert "state" in lines[1]["observation"]
    assert all("state" not in line["observation"] for line in lines[2:-1])
    assert lines[-1] == {"ended": "finished", "attempt": 1}
    assert "450 stored" in dcao("sync", str(file), url=controller.url).stdout
    reply = httpx.get(
        f"{controller.url}/v1/projects/default/runs/long/decisions", params={"format": "ndjson"}, trust_env=False
    )
    records = [json.loads(line) for line in reply.text.splitlines()]
    assert [r["decision"]["lr"] for r in records] == [d.lr for d in decisions]
    assert [r["step"] for r in records if r.get("deviates")] == []


def test_sync_sends_what_it_can_of_a_poisoned_journal(controller: Controller, tmp_path):
    """Doubles go into a file beside it, which the command names."""
    with Session(SPEC, run="poison", journal_dir=tmp_path) as session:
        for observation in observations(6):
            session.decide(observation)
    file = next(tmp_path.rglob("poison.jsonl"))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[i] for i in (0, 1, 2, 3, 3, 4, 1, 5, 6)))
    result = dcao("sync", str(file), url=controller.url)
    assert "6 stored" in result.stdout
    assert "2 were not taken" in result.stdout
    assert not file.exists()
    aside = next(tmp_path.rglob("poison.refused.jsonl"))
    assert [entry.observation.step for entry in read_journal(aside)[1]] == [20, 0]
    assert [r.step for r in history(controller.url, "poison")] == [10 * i for i in range(6)]


def foreign_line() -> bytes:
    """An entry of a run with another specification."""
    spec = SPEC.model_copy(update={"probe_interval": 77})
    lineage = Lineage(bind(spec))
    seen = lineage.stamp(observations(1)[0])
    decision = lineage.decide(seen)
    return lineage.advance(seen, decision.model_copy(update={"step": 25})).wire_json() + b"\n"


DAMAGED = {
    "cut in the middle": lambda line: line[: len(line) // 2] + b"\n",
    "run into the next": lambda line: line[: len(line) // 2],
    "binary": lambda line: bytes(range(256)).replace(b"\n", b"") * 40 + b"\n",
    "nothing": lambda line: b"\n",
    "zeros": lambda line: bytes(5000) + b"\n",
    "huge": lambda line: b"x" * (5 * journal.MAX_LINE + 3) + b"\n",
    "just too long": lambda line: b" " * journal.MAX_LINE + line,
    "deep": lambda line: b"[" * 100_000 + b"\n",
    "a number": lambda line: line.replace(b'"step":', b'"step":1e999,"x":'),
    "no text": lambda line: line.replace(b"loss", b"l\xff\xfess"),
    "a newer field": lambda line: line.replace(b'{"observation":{', b'{"observation":{"newer":1,'),
}


def test_sync_passes_over_damaged_lines_and_names_them(controller: Controller, tmp_path):
    """What is whole is in the history, as it was applied; the journal stays, for a line may be mended."""
    with Session(SPEC, run="damaged", journal_dir=tmp_path) as session:
        decisions = [session.decide(o) for o in observations(4 * len(DAMAGED) + 4)]
    file = next(tmp_path.rglob("damaged.jsonl"))
    lines = file.read_bytes().splitlines(keepends=True)
    lost = set()
    for place, (kind, damage) in enumerate(DAMAGED.items(), start=1):
        lines[4 * place] = damage(lines[4 * place])
        lost |= {4 * place - 1, *((4 * place,) if kind == "run into the next" else ())}
    file.write_bytes(b"".join(lines))
    whole = [d for i, d in enumerate(decisions) if i not in lost]
    for known in (f"{len(whole)} stored", f"0 stored, {len(whole)} were there already"):
        result = dcao("sync", str(file), url=controller.url)
        assert result.returncode == 0, result.stderr
        said = " ".join(result.stdout.split())
        assert known in said
        assert "line 5 is damaged; it was passed over" in said
        assert f"{len(DAMAGED)} lines are damaged" in said
        assert file.exists()
    records = history(controller.url, "damaged")
    assert [(r.step, r.decision.lr) for r in records] == [(d.step, d.lr) for d in whole]
    assert sum(bool(r.deviates) for r in records) <= len(DAMAGED)  # those that stood on what is lost


def test_sync_sets_another_runs_line_aside(controller: Controller, tmp_path):
    """And what stands behind it is still this run's, and right."""
    with Session(SPEC, run="mixed", journal_dir=tmp_path) as session:
        decisions = [session.decide(o) for o in observations(9)]
    file = next(tmp_path.rglob("mixed.jsonl"))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:4], foreign_line(), *lines[4:]]))
    result = dcao("sync", str(file), url=controller.url)
    assert result.returncode == 0, result.stderr
    assert "9 stored" in result.stdout
    assert "1 were not taken" in result.stdout
    records = history(controller.url, "mixed")
    assert [(r.step, r.decision.lr) for r in records] == [(d.step, d.lr) for d in decisions]
    assert not any(r.deviates for r in records)


def test_a_line_without_an_end_costs_no_memory(small, tmp_path):
    """In the queue of a session too: one line is one decision lost, however long it is."""
    kept = Journal(tmp_path, HEADER, Once())
    waiting = Backlog(kept, Once())
    for entry in entries(30):
        waiting.append(entry)
    path = next(tmp_path.rglob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[15] = b"x" * (3 * journal.MAX_LINE) + b"\n"
    path.write_bytes(b"".join(lines))
    delivered = 0
    while chunk := waiting.oldest(8):
        delivered += len(chunk)
        waiting.take(chunk)
    assert (delivered, waiting.dropped) == (29, 1)
    kept.close()


def test_a_long_outage_costs_a_window_of_memory_and_no_time(tmp_path, monkeypatch, controller: Controller):
    """3,000 decisions away: all in order afterwards, none lost, no decision that waits for the delivery."""
    monkeypatch.setattr(patience, "LAST_RETRY", 0.2)
    network = Network(down)
    session = Session(SPEC, run="away", url=controller.url, journal_dir=tmp_path, deadline=10, http=network)
    for observation in observations(3000):
        session.decide(observation)
    assert len(session._outbox.backlog) == 3000
    assert len(session._outbox.backlog._front) == backlog.WINDOW
    assert session.stats.longest_wait < 0.5
    network.fault = None
    assert session.flush(60)
    assert session.decide(Observation(step=40_000, rho=1.0, gamma=1.0)).persisted
    assert session.finish()
    assert not list(tmp_path.rglob("*.jsonl"))
