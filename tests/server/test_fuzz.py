"""Whatever fits the document, or nearly does, gets a documented answer; `python -m tests.server.fuzz.run` has more."""

from pathlib import Path

import pytest

from tests.server.fuzz.run import fuzz


def test_generated_requests_get_documented_answers_and_never_a_server_error(tmp_path: Path) -> None:
    """All checks of schemathesis, in all its phases, on a controller with keys."""
    outcome = fuzz(tmp_path, examples=4, seed=1)
    assert outcome.code == 0, outcome.report[-6000:]
    assert outcome.failures == []
    assert outcome.cases > 1000


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("redis", [False, True], ids=["sqlite", "redis"])
def test_ten_thousand_generated_requests(tmp_path: Path, redis: bool) -> None:
    """The proof of docs/operation.md, on either store."""
    outcome = fuzz(tmp_path, examples=700, seed=1, redis=redis)
    assert outcome.code == 0, outcome.report[-6000:]
    assert outcome.failures == []
    assert outcome.cases >= 10_000
