"""A short storm on every run of the tests; `python -m tests.faults.storm` is the long one."""

from pathlib import Path

import pytest

from tests.faults.storm import Plan, storm


def test_a_storm_loses_nothing_doubles_nothing_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Half a minute, a dozen faults, every record checked against what was applied and what the law decides."""
    plan = Plan(seed=1, seconds=25, writers=8, processes=4, pace=0.05, gap=1.6)
    outcome = storm(plan, tmp_path)
    figures = outcome.figures()
    assert outcome.verdict.clean, figures
    assert figures["faults"] >= 12
    assert figures["decisions"] >= 1500
    assert figures["decided_in_process"] > 0, "the storm was felt"
    assert figures["backfilled"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_long_storm(tmp_path: Path) -> None:
    """Ten minutes, 32 workers, at least 100 faults and 100,000 decisions: the proof of docs/operation.md."""
    outcome = storm(Plan(seconds=640, gap=4.5, pace=0.165), tmp_path)
    figures = outcome.figures()
    assert outcome.verdict.clean, figures
    assert figures["faults"] >= 100
    assert figures["decisions"] >= 100_000
