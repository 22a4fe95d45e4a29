"""A short storm on every run of the tests; `python -m tests.faults.storm` is the long one."""

from pathlib import Path

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
