"""docs/metrics.md says what is exported, no more and no less, in the words of the code."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric

from dcao_server.metrics import Metrics
from dcao_server.metrics.buckets import COMPUTE_SECONDS, LATENCY_SECONDS
from dcao_server.metrics.run_exposition import HEADERS, Fleet, fleet_text

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
RUN_LABELS = {
    "dcao_run_info": "project, run, attempt, optimizer, policy, status",
    "dcao_run_decisions_total": "project, run, outcome",
    "dcao_run_decision_reasons_total": "project, run, reason",
    "dcao_live_runs": "regime",
}


def row(name: str, kind: str, labels: str, text: str) -> str:
    return f"| `{name}` | {kind} | {labels} | {text} |"


def service_rows() -> Iterator[str]:
    """One for each metric of the registry; labels as declared."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, process=False)
    labels = {}
    for collector in vars(metrics).values():
        declared = getattr(collector, "_labelnames", getattr(collector, "_labels", None))
        if declared is not None and hasattr(collector, "_name"):
            labels[collector._name.removesuffix("_total")] = ", ".join(declared)
    for family in registry.collect():
        yield row(
            full_name(family),
            "gauge" if family.type == "info" else family.type,
            of(labels, family),
            family.documentation,
        )


def full_name(family: Metric) -> str:
    """As it stands in the text format."""
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def of(labels: dict[str, str], family: Metric) -> str:
    return "version, python" if family.type == "info" else labels[family.name]


def run_rows() -> Iterator[str]:
    """One for each metric of `/metrics/runs`."""
    fleet = fleet_text(Fleet(regimes=Counter(), dropped=0, unreadable=0, collect_seconds=0.0, collected_at=0.0))
    for name, text, kind in re.findall(r"# HELP (\S+) (.*)\n# TYPE \S+ (\S+)\n", fleet + "".join(HEADERS)):
        default = "project, run" if name.startswith("dcao_run_") and "dcao_run_metrics_" not in name else ""
        yield row(name, kind, RUN_LABELS.get(name, default), text)


def test_the_tables_have_a_row_for_each_metric_and_no_other() -> None:
    documented = [line for line in PAGE.read_text().splitlines() if line.startswith("| `dcao_")]
    expected = [*service_rows(), *run_rows()]
    assert documented == expected, "docs/metrics.md should hold:\n" + "\n".join(expected)


def test_the_buckets_are_as_documented() -> None:
    text = PAGE.read_text()
    for buckets in (LATENCY_SECONDS, COMPUTE_SECONDS):
        assert ", ".join(f"{1000 * seconds:g}" for seconds in buckets) + " ms" in text
