"""The oracle sees every kind of fault that it is there to see; and a seed is the same storm every time."""

import copy
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from dcao_proto import Record
from tests.faults.oracle import failures_in, judge
from tests.faults.schedule import KINDS, schedule
from tests.faults.workload import answer_of, observations, undisturbed
from tests.faults.writers import Log, seconds_without_processor

SEED, STEPS = 5, 30


def perfect() -> tuple[Log, list[Record]]:
    """What a run looks like in which nothing went wrong."""
    log, records = Log(0, delivered=True), []
    for observation, decision in zip(observations(SEED, 0), islice(undisturbed(SEED, 0), STEPS), strict=False):
        log.applied.append({"step": decision.step, **answer_of(decision)})
        log.waits.append(0.01)
        records.append(
            Record(
                attempt=1,
                step=decision.step,
                observation=observation,
                decision=decision.model_copy(update={"state": None}),
                recorded_at=0.0,
            )
        )
    return log, records


def test_a_perfect_run_is_clean() -> None:
    log, records = perfect()
    verdict = judge([log], {0: records}, SEED)
    assert verdict.clean
    assert (verdict.decisions, verdict.records) == (STEPS, STEPS)


def spoil_lr(records: list[Record]) -> None:
    decision = records[7].decision
    records[7] = records[7].model_copy(
        update={"decision": decision.model_copy(update={"lr": decision.lr * (1 + 2**-52)})}
    )


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("lost", lambda log, records: records.pop(7)),
        ("lost", lambda log, records: records.pop()),
        ("doubled", lambda log, records: records.insert(7, records[7])),
        ("doubled", lambda log, records: records.append(records[7].model_copy(update={"attempt": 2}))),
        ("out of order", lambda log, records: records.insert(3, records.pop(7))),
        ("diverging history", lambda log, records: spoil_lr(records)),
        ("called deviating", lambda log, records: records.append(records.pop().model_copy(update={"deviates": True}))),
        ("never applied", lambda log, records: log.applied.pop()),
        ("not what the law decides", lambda log, records: log.applied[7].update(momentum=0.5)),
        ("diverging replies", lambda log, records: log.diverging.append("step 3")),
        ("raised into training", lambda log, records: log.raised.append("ValueError()")),
        ("past the deadline", lambda log, records: log.waits.append(0.31)),
        ("not delivered", lambda log, records: setattr(log, "delivered", False)),
    ],
)
def test_every_kind_of_fault_is_seen(kind: str, spoil: Callable[[Log, list[Record]], object]) -> None:
    log, records = perfect()
    spoil(log, records)
    assert judge([log], {0: records}, SEED).violations[kind] >= 1


def test_a_late_call_counts_unless_the_writer_had_no_processor() -> None:
    log, records = perfect()
    log.waits[3], log.starved[3] = 0.4, 0.2
    verdict = judge([log], {0: records}, SEED)
    assert verdict.clean
    assert (verdict.late, verdict.longest_wait) == (1, 0.4)
    log.starved[3] = 0.05
    assert judge([log], {0: records}, SEED).violations["past the deadline"] == 1


def test_the_time_without_a_processor_only_grows() -> None:
    before = seconds_without_processor()
    sum(range(1_000_000))
    assert 0 <= before <= seconds_without_processor() < 3600


def test_a_bug_in_a_controllers_log_is_found_and_a_refusal_is_none(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"event": "request", "status": 503}\n{"event": "request failed", "exception": "Traceback"}\n')
    assert len(failures_in([log])) == 1


def test_a_seed_is_the_same_storm_every_time() -> None:
    faults = schedule(7, 600, 3.0, 2)
    assert faults == schedule(7, 600, 3.0, 2)
    assert faults != schedule(8, 600, 3.0, 2)
    assert 150 < len(faults) < 250
    counts = {kind: sum(fault.kind == kind for fault in faults) for kind in KINDS}
    assert max(counts.values()) - min(counts.values()) <= 1, "every kind is tried about equally often"
    assert all(KINDS[fault.kind][0] <= fault.seconds <= KINDS[fault.kind][1] for fault in faults)


def test_runs_are_the_same_every_time_and_not_the_same_as_each_other() -> None:
    first = list(islice(observations(1, 0), 50))
    assert first == list(islice(observations(1, 0), 50))
    assert first != list(islice(observations(1, 1), 50))
    assert copy.deepcopy(first) == first
