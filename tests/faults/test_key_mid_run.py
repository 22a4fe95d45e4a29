"""A key that expires or is revoked in the middle of a run: training goes on, and the history is complete in the end."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx
import pytest

from dcao_client.session import Session
from dcao_proto import HistoryPage
from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, create_key
from tests.faults.workload import answer_of, observations, spec_of, undisturbed
from tests.server.operation.process import Server, running

SEED, WRITER, PROJECT = 21, 0, "vision"


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    file = KeyFile(tmp_path / "keys.jsonl")
    file.add(create_key({"none": Scope.READ})[1])
    return file


@pytest.fixture
def server(keys: KeyFile, tmp_path: Path) -> Iterator[Server]:
    settings = {"DCAO_API_KEYS_FILE": str(keys.path), "DCAO_API_KEYS_REFRESH_SECONDS": "0.05"}
    with running(tmp_path / "log", "-m", "dcao_server.main", "serve", **settings) as server:
        yield server


def give(keys: KeyFile, held: Path, expires_in: float | None = None) -> str:
    """A new key, written where the worker reads its own; returns its id."""
    key, record = create_key({PROJECT: Scope.WRITE}, expires_in=expires_in)
    keys.add(record)
    held.write_text(f"{key}\n")
    return record.id


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_training_goes_on_without_a_key_and_the_history_is_made_whole_with_the_next(
    how: str, server: Server, keys: KeyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "held"
    first = give(keys, held, 4 if how == "expired" else None)
    monkeypatch.setenv("DCAO_API_KEY_FILE", str(held))
    coming = observations(SEED, WRITER)
    with Session(
        spec_of(WRITER), run="r", project=PROJECT, url=server.url, deadline=5, journal_dir=tmp_path / "journal"
    ) as session:
        decisions = [session.decide(observation) for observation in islice(coming, 5)]
        assert all(decision.persisted for decision in decisions)
        if how == "revoked":
            keys.remove(first)
        time.sleep(4.2 if how == "expired" else 0.3)
        decisions += [session.decide(observation) for observation in islice(coming, 5)]
        assert not any(decision.persisted for decision in decisions[5:])
        assert session.stats.in_process == 5
        give(keys, held)
        assert session.flush(30)
        decisions += [session.decide(observation) for observation in islice(coming, 5)]
        assert decisions[-1].persisted
    right = list(islice(undisturbed(SEED, WRITER), 15))
    assert [answer_of(d) for d in decisions] == [answer_of(d) for d in right]
    page = _history(server, held)
    assert [answer_of(record.decision) for record in page.records] == [answer_of(d) for d in right]


def _history(server: Server, held: Path) -> HistoryPage:
    reply = httpx.get(
        f"{server.url}/v1/projects/{PROJECT}/runs/r/decisions",
        headers={"authorization": f"Bearer {held.read_text().strip()}"},
        trust_env=False,
    )
    return HistoryPage.model_validate_json(reply.content)
