"""Live runs in Prometheus' text format.

Written here rather than with the client library because of its size: a thousand runs are some 40,000 samples, which
take 40 ms of CPU here and three times as long in the library, without the time to make its objects
(`benchmarks/scrape.py` measures both). A test parses the text with the library's parser, sample by sample.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dcao_server.metrics.labels import known_counts, policy_label
from dcao_server.metrics.run_families import (
    DECISIONS,
    DECISIONS_HELP,
    FAMILIES,
    INFO,
    INFO_HELP,
    OUTCOMES,
    REASONS,
    REASONS_HELP,
)
from dcao_server.metrics.run_snapshot import RunSnapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REGIMES = ("calibrating", "flat", "stable", "edge", "unstable", "diverged", "held", "pending")
RUNS_IN_A_PIECE = 250
"""Runs whose lines of one family are joined and sent at once: 30 µs."""


class RunLines(NamedTuple):
    """The sample lines of one run, one text for each family in the order of `HEADERS`."""

    lines: tuple[str, ...]
    regime: str


class Fleet(NamedTuple):
    """What is said of all live runs together."""

    regimes: Counter[str]
    dropped: int
    unreadable: int
    collect_seconds: float
    collected_at: float


def _header(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


HEADERS: tuple[str, ...] = (
    _header(INFO, "gauge", INFO_HELP),
    *(_header(family.name, family.kind, family.help) for family in FAMILIES),
    _header(DECISIONS, "counter", DECISIONS_HELP),
    _header(REASONS, "counter", REASONS_HELP),
)


def run_lines(run: RunSnapshot) -> RunLines:
    """The samples of one run. Names need no escaping, their pattern sees to that; other text is escaped."""
    stored = run.stored
    labels = f'project="{stored.key.project}",run="{stored.key.run}"'
    declared = run.spec.policy.name
    policy = declared if run.record is None else policy_label(run.record.decision.policy, declared)
    status = "stale" if run.stale and stored.status == "active" else stored.status
    lines = [
        f'{INFO}{{{labels},attempt="{stored.attempt}",optimizer="{run.spec.optimizer}",policy="{_escaped(policy)}",'
        f'status="{status}"}} 1\n'
    ]
    for name, _, _, read in FAMILIES:
        value = read(run)
        lines.append("" if value is None else f"{name}{{{labels}}} {value!r}\n")
    counts = stored.counts
    lines.append("".join(f'{DECISIONS}{{{labels},outcome="{o}"}} {counts.get(o, 0)}\n' for o in OUTCOMES))
    lines.append(
        "".join(
            f'{REASONS}{{{labels},reason="{_escaped(name)}"}} {count}\n'
            for name, count in known_counts(counts, OUTCOMES).items()
        )
    )
    return RunLines(tuple(lines), run.regime)


def fleet_text(fleet: Fleet) -> str:
    """The metrics without a run label: nothing that the cap on runs leaves out goes unsaid."""
    regimes = "".join(f'dcao_live_runs{{regime="{name}"}} {fleet.regimes[name]}\n' for name in REGIMES)
    return (
        _header("dcao_live_runs", "gauge", "Live runs exported, by the regime of their newest decision.")
        + regimes
        + _header("dcao_live_runs_dropped", "gauge", "Live runs left out because there are more than the cap.")
        + f"dcao_live_runs_dropped {fleet.dropped}\n"
        + _header("dcao_live_runs_unreadable", "gauge", "Live runs left out because a newer controller wrote them.")
        + f"dcao_live_runs_unreadable {fleet.unreadable}\n"
        + _header("dcao_run_metrics_collect_duration_seconds", "gauge", "Seconds that reading the live runs took.")
        + f"dcao_run_metrics_collect_duration_seconds {fleet.collect_seconds!r}\n"
        + _header("dcao_run_metrics_timestamp_seconds", "gauge", "When the live runs were read from the store.")
        + f"dcao_run_metrics_timestamp_seconds {fleet.collected_at!r}\n"
    )


def pieces(runs: Sequence[RunLines]) -> Iterator[bytes]:
    """The text in pieces of some 20 kB, each family together as the format demands."""
    for index, header in enumerate(HEADERS):
        opened = False
        for begin in range(0, len(runs), RUNS_IN_A_PIECE):
            body = "".join([run.lines[index] for run in runs[begin : begin + RUNS_IN_A_PIECE]])
            if body:
                # Apart: the header is not ASCII, and a join with it would copy all that is.
                yield body.encode() if opened else header.encode() + body.encode()
                opened = True


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
