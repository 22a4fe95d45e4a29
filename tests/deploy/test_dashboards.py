"""The dashboards: as generated, sound in form, and every query answered by a real Prometheus over real controllers."""

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from dcao_server.metrics import Metrics
from dcao_server.metrics.run_exposition import HEADERS, Fleet, fleet_text
from tests.components.controller import Controller
from tests.components.prometheus_server import PrometheusServer
from tests.components.redis_server import RedisServer
from tests.components.worker import Worker
from tests.deploy.promql import (
    DASHBOARDS,
    DEPLOY,
    FILLED,
    annotation_queries,
    dashboard,
    metrics_in,
    panel_queries,
    rules,
)

SUFFIXES = ("_bucket", "_count", "_sum")


def test_the_committed_files_are_what_the_builder_makes() -> None:
    built = subprocess.run(
        [sys.executable, str(DEPLOY / "grafana" / "build.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout
    assert [path.stem for path in DASHBOARDS] == ["dcao-fleet", "dcao-run", "dcao-service"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_their_own_numbers_and_places(path: Path) -> None:
    panels = dashboard(path)["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_everything_a_dashboard_refers_to_exists(path: Path) -> None:
    loaded = dashboard(path)
    text = path.read_text()
    declared = {f"${variable['name']}" for variable in loaded["templating"]["list"]}
    used = {word for word in FILLED if word in text and not word.startswith("$__")}
    assert used == declared - {"$datasource"}
    uids = {other.stem for other in DASHBOARDS}
    assert loaded["uid"] in uids
    assert {link["url"].removeprefix("/d/") for link in loaded["links"]} == uids - {loaded["uid"]}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_whoever_looks_chooses_the_data_source(path: Path) -> None:
    """Nothing names a fixed one, so the dashboards work in a Grafana that has its Prometheus already."""
    first = dashboard(path)["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    named = re.findall(r'"datasource": \{\s*"type": "(\w+)",\s*"uid": "([^"]*)"', path.read_text())
    assert len(named) > 20
    assert set(named) == {("prometheus", "${datasource}")}


def test_the_run_dashboard_draws_the_threshold_on_a_logarithmic_sharpness() -> None:
    panels = {panel["title"]: panel for panel in dashboard(DEPLOY / "grafana/dashboards/dcao-run.json")["panels"]}
    sharpness = panels["Sharpness and the stability threshold"]
    assert sharpness["fieldConfig"]["defaults"]["custom"]["scaleDistribution"] == {"type": "log", "log": 10}
    assert any("dcao_run_sharpness_limit" in target["expr"] for target in sharpness["targets"])
    edge = next(p for p in panels.values() if p["title"] == "Edge ratio" and p["type"] == "timeseries")
    assert 1 in [step["value"] for step in edge["fieldConfig"]["defaults"]["thresholds"]["steps"]]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_alerts_are_marked_on_every_dashboard(path: Path) -> None:
    marks = {annotation["name"]: annotation["expr"] for annotation in dashboard(path)["annotations"]["list"]}
    assert "ALERTS" in marks["Alerts"]


def test_attempts_are_marked_on_the_run_dashboard() -> None:
    marks = dashboard(DEPLOY / "grafana/dashboards/dcao-run.json")["annotations"]["list"]
    assert any("dcao_run_attempt" in mark["expr"] for mark in marks)


def exported() -> set[str]:
    """Every metric of this project, as its family is called in the text format."""
    fleet = fleet_text(Fleet(regimes=Counter(), dropped=0, unreadable=0, collect_seconds=0.0, collected_at=0.0))
    lines = [line for text in (*HEADERS, fleet) for line in text.splitlines()]
    from_runs = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    registry = CollectorRegistry()
    Metrics(registry, process=False)
    named = {
        f"{family.name}_total" if family.type == "counter" else family.name + ("_info" if family.type == "info" else "")
        for family in registry.collect()
    }
    return from_runs | named


def asked() -> set[str]:
    """Every metric that a panel or a rule reads, without the suffixes of histograms."""
    expressions = [query.expr for query in (*panel_queries(), *annotation_queries())]
    expressions += [rule["expr"] for rule in rules()]
    names = {name for expr in expressions for name in metrics_in(expr)}
    stripped = set()
    for name in names:
        suffix = next((s for s in SUFFIXES if name.endswith(s) and name.removesuffix(s) in exported()), "")
        stripped.add(name.removesuffix(suffix))
    return stripped


def test_every_metric_is_on_a_panel_or_in_a_rule() -> None:
    assert exported() - asked() == set()


def test_panels_and_rules_read_nothing_that_is_not_exported_or_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    unknown = {name for name in asked() - exported() - recorded if not name.startswith(("process_", "python_"))}
    assert unknown == set()


def test_every_recorded_series_is_read() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert recorded - asked() == set()


class LiveFleet:
    """Two replicas on one Redis, three runs that go on deciding, and a Prometheus that watches."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.controllers = [Controller(directory / name, redis_url=redis.url) for name in ("a", "b")]
        addresses = [controller.url.removeprefix("http://") for controller in self.controllers]
        self.prometheus = PrometheusServer(directory / "prometheus", addresses)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._train)
        self.thread.start()

    def _train(self) -> None:
        urls = [controller.url for controller in self.controllers]
        policy = {"name": "paper", "params": {"alpha": 0.1, "rho_ref": 20.0}}
        workers = [
            Worker(urls[0], "vision", "resnet18"),
            Worker(urls[1], "vision", "vgg11", policy=policy),
            Worker(urls[1], "language", "gpt", optimizer="adamw"),
        ]
        for beat in range(1000):
            if self.stopping.wait(0.2):
                return
            for worker in workers:
                worker.observe()
            if beat % 10 == 5:
                self._backfill(workers[0])
                httpx.get(f"{urls[0]}/v1/projects/vision/runs/unknown")
            if beat == 20:
                workers[1].restart(back_to=10)

    @staticmethod
    def _backfill(worker: Worker) -> None:
        """A decision that the client made while it was alone."""
        worker.probes += 1
        version = worker.decision["version"] + 1
        decision = {**worker.decision, "step": worker.step, "version": version, "persisted": False}
        entry = {"observation": worker.observation(), "decision": decision}
        worker.client.post(f"{worker.path}/decisions:backfill", json={"entries": [entry]}).raise_for_status()
        worker.decision = decision

    def stop(self) -> None:
        """Ends everything."""
        self.stopping.set()
        self.thread.join()
        self.prometheus.kill()
        for controller in self.controllers:
            controller.kill()


@pytest.fixture(scope="module")
def fleet(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    fleet = LiveFleet(tmp_path_factory.mktemp("fleet"), redis_server)
    time.sleep(12)
    yield fleet
    fleet.stop()


def answered(fleet: LiveFleet, expr: str, seconds: float = 20) -> list[dict[str, Any]]:
    """The answer, once there is one."""
    deadline = time.monotonic() + seconds
    while True:
        found = [series for series in fleet.prometheus.query(expr) if series["value"][1] != "NaN"]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


@pytest.mark.parametrize("query", panel_queries(), ids=lambda query: query.where)
def test_every_panel_query_returns_data(fleet: LiveFleet, query: Any) -> None:
    assert answered(fleet, query.filled()), query.filled()


@pytest.mark.parametrize("query", annotation_queries(), ids=lambda query: query.where)
def test_every_annotation_query_is_one_that_prometheus_takes(fleet: LiveFleet, query: Any) -> None:
    assert isinstance(fleet.prometheus.query(query.filled()), list)


def test_variables_find_the_projects_and_runs(fleet: LiveFleet) -> None:
    answered(fleet, "dcao_run_info")
    found = fleet.prometheus.query("group by (project, run) (dcao_run_info)")
    names = {(series["metric"]["project"], series["metric"]["run"]) for series in found}
    assert {("vision", "resnet18"), ("vision", "vgg11"), ("language", "gpt")} <= names


def test_rules_are_evaluated_without_an_error(fleet: LiveFleet) -> None:
    groups = httpx.get(f"{fleet.prometheus.url}/api/v1/rules", trust_env=False).json()["data"]["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert len(health) == len(rules())
    assert set(health.values()) == {"ok"}
