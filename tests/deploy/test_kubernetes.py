"""The manifests follow the rules and dashboards, fit Kubernetes' own schemas, and fit each other."""

from __future__ import annotations

import json
import runpy
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from .kubernetes_rules import KUBERNETES, SCHEMAS, resources

GENERATE = runpy.run_path(str(KUBERNETES / "generate.py"))
ALL = resources("redis")
VERSIONS = ["1.25", "1.33"]
"""The oldest with every API used here (autoscaling/v2 and policy/v1 are alone since 1.25), and a current one."""


def of_kind(kind: str, name: str = "dcao-controller") -> dict[str, Any]:
    (found,) = [item for item in ALL if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("name", ["prometheusrule.yaml", "dashboards.yaml"])
def test_generated_manifests_are_those_of_the_rules_and_dashboards_of_today(name: str) -> None:
    assert (KUBERNETES / "base" / name).read_text() == GENERATE["render"]()[name], (
        "run python deploy/kubernetes/generate.py"
    )


def test_a_rule_and_a_dashboard_arrive_in_their_manifests_unchanged(tmp_path: Path) -> None:
    (tmp_path / "prometheus/rules").mkdir(parents=True)
    (tmp_path / "grafana/dashboards").mkdir(parents=True)
    group = {
        "name": "g",
        "rules": [{"alert": "A", "expr": "up ==\n 0", "for": "1m", "annotations": {"x": "{{ $value }}"}}],
    }
    (tmp_path / "prometheus/rules/a.yml").write_text(yaml.safe_dump({"groups": [group]}))
    board = {"uid": "u", "title": "ρ of “all” runs", "panels": [{"id": 1}]}
    (tmp_path / "grafana/dashboards/run.json").write_text(json.dumps(board))
    texts = GENERATE["render"](tmp_path)
    rule = yaml.safe_load(texts["prometheusrule.yaml"])
    jsonschema.validate(rule, SCHEMAS["PrometheusRule"])
    assert rule["spec"]["groups"] == [group]
    config = yaml.safe_load(texts["dashboards.yaml"])
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["run.json"]) == board


def test_two_groups_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "prometheus/rules").mkdir(parents=True)
    for name in ("a.yml", "b.yml"):
        (tmp_path / "prometheus/rules" / name).write_text("groups: [{name: g, rules: []}]")
    with pytest.raises(ValueError, match=r"got \['g'\] twice; rename one"):
        GENERATE["prometheus_rule"](tmp_path)


def test_a_dashboard_too_large_for_a_config_map_is_refused(tmp_path: Path) -> None:
    (tmp_path / "grafana/dashboards").mkdir(parents=True)
    (tmp_path / "grafana/dashboards/big.json").write_text(json.dumps({"x": "y" * 1_000_000}))
    with pytest.raises(ValueError, match=r"expected big\.json below 1000000 bytes"):
        GENERATE["dashboards"](tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("item", ALL, ids=lambda item: f"{item['kind']}-{item['metadata']['name']}")
def test_every_manifest_fits_its_schema(item: dict[str, Any], version: str) -> None:
    if item["kind"] in SCHEMAS:
        jsonschema.validate(item, SCHEMAS[item["kind"]])
    else:
        kubernetes_validate.validate(item, version, strict=True)


def test_the_schemas_refuse_a_misspelt_key() -> None:
    deployment = json.loads(json.dumps(of_kind("Deployment")))
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)
    monitor = json.loads(json.dumps(of_kind("ServiceMonitor")))
    monitor["spec"]["endpoints"][0]["scrape_timeout"] = "1s"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(monitor, SCHEMAS["ServiceMonitor"])


def test_every_file_of_a_kustomization_is_listed_in_it() -> None:
    for folder in ("base", "redis"):
        kustomization = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
        files = {path.name for path in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"}
        assert files == {name for name in kustomization["resources"] if name.endswith(".yaml")}


def test_selectors_meet_the_labels_they_select() -> None:
    labels = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert of_kind("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind("Service")["spec"]["selector"] == labels
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert of_kind("Service")["metadata"]["labels"] == labels
    for name in ("dcao-controller", "dcao-runs"):
        assert of_kind("ServiceMonitor", name)["spec"]["selector"]["matchLabels"] == labels
    redis = of_kind("StatefulSet", "dcao-redis")["spec"]["template"]["metadata"]["labels"]
    assert of_kind("Service", "dcao-redis")["spec"]["selector"] == redis
    allowed = of_kind("NetworkPolicy", "dcao-redis")["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert allowed == labels


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_containers_have_no_privilege_and_a_read_only_root(kind: str) -> None:
    pod = of_kind(kind, "dcao-controller" if kind == "Deployment" else "dcao-redis")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_liveness_asks_the_process_and_readiness_the_store() -> None:
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize(
    "port",
    [6379, 6380, 26379, 4317, 4318],
    ids=["redis", "redis over TLS", "sentinel", "OTLP over gRPC", "OTLP over HTTP"],
)
def test_the_network_lets_the_controller_reach_what_the_documentation_names(port: int) -> None:
    allowed = [entry["port"] for rule in of_kind("NetworkPolicy")["spec"]["egress"] for entry in rule["ports"]]
    assert port in allowed


def test_metrics_are_for_those_who_monitor_and_the_api_for_those_who_work() -> None:
    """The port without keys is not open to workers, and nobody needs a key of theirs to scrape."""
    work, monitor = of_kind("NetworkPolicy")["spec"]["ingress"]
    assert [entry["port"] for entry in work["ports"]] == ["http"]
    assert [entry["port"] for entry in monitor["ports"]] == ["metrics"]
    assert all("monitoring" in json.dumps(peer) for peer in monitor["from"])
    assert not any("monitoring" in json.dumps(peer) for peer in work["from"])
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {entry["name"]: str(entry["containerPort"]) for entry in container["ports"]}
    data = of_kind("ConfigMap")["data"]
    assert ports == {"http": data["DCAO_PORT"], "metrics": data["DCAO_METRICS_PORT"]}
    assert {entry["name"]: str(entry["port"]) for entry in of_kind("Service")["spec"]["ports"]} == ports


@contextmanager
def prometheus(folder: Path, jobs: list[dict[str, Any]]) -> Iterator[str]:
    """A real Prometheus with these scrape jobs; its address. Nothing needs to listen where it scrapes."""
    program = shutil.which("prometheus")
    assert program, "expected prometheus on the PATH, found none; apt-get install prometheus"
    (folder / "p.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            program,
            f"--config.file={folder / 'p.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def active_targets(url: str, count: int) -> list[dict[str, Any]]:
    """Its targets, once it has so many, for its jobs come one by one; what it has after 20 s."""
    targets: list[dict[str, Any]] = []
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(f"{url}/api/v1/targets?state=active", timeout=1) as answer:
            targets = json.load(answer)["data"]["activeTargets"]
            if len(targets) >= count:
                break
        time.sleep(0.1)
    return targets


def relabel_configs(name: str) -> list[dict[str, Any]]:
    """The monitor's relabelings in Prometheus' own spelling, after those that the operator puts before them."""
    spelled = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    own = of_kind("ServiceMonitor", name)["spec"]["endpoints"][0]["relabelings"]
    before = [
        {"source_labels": [f"__meta_kubernetes_{meta}"], "target_label": target}
        for meta, target in [("namespace", "namespace"), ("service_name", "service"), ("pod_name", "pod")]
    ]
    return [*before, *({spelled.get(key, key): value for key, value in rule.items()} for rule in own)]


def test_a_real_prometheus_scrapes_each_replica_for_service_metrics_and_the_runs_once(tmp_path: Path) -> None:
    replicas = [
        {
            "targets": [f"127.0.1.{number}:8081"],
            "labels": {
                "__meta_kubernetes_service_name": "dcao-controller",
                "__meta_kubernetes_namespace": "ml",
                "__meta_kubernetes_pod_name": f"dcao-controller-{number}",
            },
        }
        for number in (1, 2, 3)
    ]
    jobs = [
        {
            "job_name": f"serviceMonitor/ml/{name}/0",
            "metrics_path": of_kind("ServiceMonitor", name)["spec"]["endpoints"][0]["path"],
            "scrape_interval": "1h",
            "static_configs": replicas,
            "relabel_configs": relabel_configs(name),
        }
        for name in ("dcao-controller", "dcao-runs")
    ]
    with prometheus(tmp_path, jobs) as url:
        targets = active_targets(url, 4)
    found = sorted((target["labels"]["job"], target["scrapeUrl"]) for target in targets)
    assert found == [
        *(("dcao-controller", f"http://127.0.1.{number}:8081/metrics") for number in (1, 2, 3)),
        ("dcao-runs", "http://dcao-controller.ml.svc:8081/metrics/runs"),
    ]
