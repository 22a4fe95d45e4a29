"""How a run ends, and that a name is used again, come to whoever looks, with a controller and without."""

import logging
from pathlib import Path

import httpx
import pytest

from dcao_client import Session
from dcao_client.journal import JournalEnd, read_journal
from tests.client.test_cli import dcao
from tests.client.test_session import SPEC, Network, down, history, observations
from tests.components.controller import Controller


def offline(run: str, folder: Path, steps: int, start: int = 0) -> Session:
    session = Session(SPEC, run=run, journal_dir=folder)
    for seen in observations(steps, start):
        session.decide(seen)
    return session


def status(controller: Controller, run: str) -> tuple[str, str | None]:
    found = httpx.get(f"{controller.url}/v1/projects/default/runs/{run}", trust_env=False).json()
    return found["status"], found.get("reason")


@pytest.mark.parametrize("how", ["finish", "fail"])
def test_the_end_of_a_run_without_a_controller_is_delivered(controller: Controller, tmp_path: Path, how: str) -> None:
    """As often as it is sent."""
    session = offline(f"offline-{how}", tmp_path, 3)
    assert getattr(session, how)("out of steps")
    assert session.finish(), "a second end is none"
    journal = tmp_path / "default" / f"offline-{how}.jsonl"
    assert [path.name for path in journal.parent.iterdir()] == [journal.name]
    for arguments in ((str(journal), "--keep"), (str(journal),)):
        sent = dcao("sync", *arguments, url=controller.url)
        assert sent.returncode == 0, sent.stderr
        assert f"it {how.removesuffix('ish')}" in sent.stdout
    assert status(controller, f"offline-{how}") == ({"finish": "finished", "fail": "failed"}[how], "out of steps")
    assert not journal.exists()


def test_a_run_that_did_not_end_goes_on(controller: Controller, tmp_path: Path) -> None:
    offline("no-end", tmp_path, 3).close()
    dcao("sync", str(tmp_path / "default" / "no-end.jsonl"), url=controller.url)
    assert status(controller, "no-end")[0] == "active"


@pytest.mark.parametrize("waiting", [0, 2])
def test_a_controller_that_is_away_at_the_end_hears_of_it_later(
    controller: Controller, tmp_path: Path, waiting: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether decisions wait too, or the end alone."""
    network, run = Network(), f"away-at-the-end-{waiting}"
    session = Session(SPEC, run=run, url=controller.url, journal_dir=tmp_path, deadline=10, http=network)
    for i, seen in enumerate(observations(4)):
        network.fault = down if i >= 4 - waiting else None
        session.decide(seen)
    network.fault = down
    assert not session.finish(timeout=0.2)
    assert "dcao sync sends" in caplog.text
    ends: list[JournalEnd] = []
    assert len(list(read_journal(tmp_path / "default" / f"{run}.jsonl", None, ends.append)[1])) == waiting
    assert [(end.ended, end.attempt) for end in ends] == [("finished", 1)]
    sent = dcao("sync", str(tmp_path / "default" / f"{run}.jsonl"), url=controller.url)
    assert sent.returncode == 0, sent.stderr
    assert status(controller, run)[0] == "finished"
    assert len(history(controller.url, run)) == 4


def test_an_end_does_not_end_a_later_attempt(controller: Controller, tmp_path: Path) -> None:
    first = Session(
        SPEC, run="later", url=controller.url, journal_dir=tmp_path, deadline=10, http=(network := Network())
    )
    first.decide(observations(1)[0])
    network.fault = down
    first.fail("the machine goes", timeout=0.2)
    second = Session(SPEC, run="later", url=controller.url, journal_dir=tmp_path, deadline=10)
    second.decide(observations(1)[0])
    sent = dcao("sync", str(tmp_path / "default" / "later.jsonl"), url=controller.url)
    assert (sent.returncode, "attempt 2 goes on" in sent.stdout) == (0, True), sent.stdout
    assert status(controller, "later")[0] == "active"
    second.finish()


def test_a_name_used_again_is_said_once(
    controller: Controller, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Which attempt this is, and how to get a run of its own; not where a checkpoint was loaded."""
    for again in range(2):
        caplog.clear()
        with Session(SPEC, run="used", url=controller.url, journal_dir=tmp_path, deadline=10) as session:
            for seen in observations(3):
                session.decide(seen)
            state = session.state_dict()
        said = [r.getMessage() for r in caplog.records if "was there already" in r.getMessage()]
        assert len(said) == again
    assert "its attempt 1 (finished, last step 20) had ended. This training is attempt 2" in said[0]
    assert "give another name, or none" in said[0]
    assert "attempt 2" in dcao("show", "used", url=controller.url).stdout
    caplog.clear()
    with Session(SPEC, run="used", url=controller.url, journal_dir=tmp_path, deadline=10) as session:
        session.load_state_dict(state)
        session.decide(observations(1, 3)[0])
    assert "was there already" not in caplog.text


def test_a_name_used_again_without_a_controller_loses_nothing(
    controller: Controller, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another training under the name is not taken for the one that is there; it is sent under its own."""
    offline("twice", tmp_path, 3).finish()
    assert "a journal of this run was there already" not in caplog.text
    offline("twice", tmp_path, 3, start=5).finish()
    assert caplog.text.count("a journal of this run was there already") == 1
    first, second = (tmp_path / "default" / name for name in ("twice.jsonl", "twice.1.jsonl"))
    second.write_bytes(second.read_bytes().replace(b'"step":50', b'"step":0'))
    assert dcao("sync", str(first), url=controller.url).returncode == 0
    refused = dcao("sync", str(second), url=controller.url)
    assert (refused.returncode, second.exists()) == (1, True)
    assert "another training has the name default/twice" in refused.stderr
    assert dcao("sync", str(second), "--run", "twice-b", url=controller.url).returncode == 0
    assert [r.step for r in history(controller.url, "twice-b")] == [0, 60, 70]
    assert len(history(controller.url, "twice")) == 3


def test_who_has_no_controller_is_told_once_where_the_journal_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Aloud the first time; where journals lie already, for those who want to know."""
    caplog.set_level(logging.INFO)
    levels = []
    for run in ("a", "b"):
        caplog.clear()
        offline(run, tmp_path, 2).close()
        (said,) = [record for record in caplog.records if "no DCAO_URL" in record.getMessage()]
        assert str(tmp_path / "default" / f"{run}.jsonl") in said.getMessage()
        levels.append(said.levelno)
    assert levels == [logging.WARNING, logging.INFO]
