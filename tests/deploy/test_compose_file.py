"""The compose file is one that Compose and a Swarm both take as it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .swarm_rules import DEPRECATED, IGNORED, REJECTED, UNKNOWN, findings

ROOT = Path(__file__).resolve().parents[2]
MAIN: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OVERRIDE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.override.yml").read_text())
SERVICES = sorted(MAIN["services"])


def test_the_file_has_no_key_that_docker_stack_deploy_ignores_or_rejects() -> None:
    assert list(findings(MAIN)) == []


@pytest.mark.parametrize("key", sorted(IGNORED | DEPRECATED | REJECTED | UNKNOWN))
def test_the_scan_finds_every_key_it_knows_of(key: str) -> None:
    planted = {"version": "3.8", "services": {"a": {"image": "b", key: "x"}}}
    assert [found for found in findings(planted) if found.startswith(f"services.a.{key} ")]


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({"image": "b", "depends_on": {"c": {"condition": "service_healthy"}}}, "depends_on must be a list"),
        (
            {"image": "b", "deploy": {"resources": {"limits": {"pids": 5}}}},
            "resources.limits.pids is not in the schema",
        ),
        ({"image": "b", "volumes": ["./x:/x"]}, "is a path of one node"),
        ({"image": "b", "ports": ["127.0.0.1:80:80"]}, "names an address"),
        ({}, "needs an image"),
    ],
)
def test_the_scan_finds_values_that_a_swarm_takes_differently(service: dict[str, Any], expected: str) -> None:
    assert any(expected in found for found in findings({"version": "3.8", "services": {"a": service}}))


def test_the_override_holds_what_only_compose_knows() -> None:
    """Each built image is declared beside its service, and the demo profile holds two workers and nothing else."""
    built = {name for name, service in OVERRIDE["services"].items() if "build" in service}
    assert built == set(OVERRIDE["services"]) >= set(SERVICES)
    demo = [name for name, service in OVERRIDE["services"].items() if service.get("profiles") == ["demo"]]
    assert sorted(demo) == ["worker-a", "worker-b"] == sorted(set(OVERRIDE["services"]) - set(SERVICES))
    for service in OVERRIDE["services"].values():
        assert (ROOT / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_says_how_it_is_updated_limited_and_checked(name: str) -> None:
    service = MAIN["services"][name]
    deploy = service["deploy"]
    assert deploy["update_config"]["failure_action"] == "rollback"
    assert deploy["rollback_config"]["order"] == deploy["update_config"]["order"]
    assert deploy["restart_policy"]["condition"] == "any"
    assert set(deploy["resources"]["limits"]) == {"cpus", "memory"}
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["cap_drop"] == ["ALL"]
    assert service["init"] is True
    # Grafana keeps its plug-ins and its database beside its program and is given a writable root.
    assert service.get("read_only", False) is (name != "grafana")


def test_stateful_services_never_run_twice_and_stay_with_their_volume() -> None:
    for name in ("redis", "prometheus", "grafana"):
        deploy = MAIN["services"][name]["deploy"]
        assert deploy["replicas"] == 1
        assert deploy["update_config"]["order"] == "stop-first"
        assert deploy["placement"]["constraints"] == ["node.labels.dcao.store == true"]


def test_the_controller_is_replicated_behind_a_name_that_resolves_to_every_replica() -> None:
    deploy = MAIN["services"]["controller"]["deploy"]
    assert deploy["replicas"] == 2
    assert deploy["endpoint_mode"] == "dnsrr"
    assert "ports" not in MAIN["services"]["controller"]
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in prometheus["scrape_configs"]}
    assert jobs["dcao-controller"]["dns_sd_configs"][0]["names"] == ["controller"]
    assert jobs["dcao-runs"]["static_configs"] == [{"targets": ["proxy:8081"]}]
    assert jobs["dcao-runs"]["metrics_path"] == "/metrics/runs"


def test_only_the_proxy_and_grafana_are_published() -> None:
    assert [name for name in SERVICES if "ports" in MAIN["services"][name]] == ["grafana", "proxy"]
    assert MAIN["networks"]["back"] == {"internal": True}
    assert MAIN["services"]["redis"]["networks"] == ["back"] == MAIN["services"]["controller"]["networks"]
    (published,) = OVERRIDE["services"]["prometheus"]["ports"]
    assert published.startswith("127.0.0.1:")


def test_no_secret_is_written_in_the_files() -> None:
    """A password, token or key is always the path of a secret's file, and git ignores those files."""
    for compose in (MAIN, OVERRIDE):
        for service in compose["services"].values():
            for variable, value in service.get("environment", {}).items():
                if re.search("PASSWORD|TOKEN|KEY|SECRET", variable):
                    assert variable.endswith(("_FILE", "__FILE")), variable
                    assert str(value).startswith("/run/secrets/"), variable
        for secret in compose["secrets"].values():
            assert secret["file"].startswith("${DCAO_SECRETS_FOLDER:-./deploy/secrets}/")
    ignored = subprocess.run(["git", "check-ignore", "-q", "deploy/secrets/redis_password"], cwd=ROOT, check=False)
    assert ignored.returncode == 0


def test_docker_compose_accepts_the_two_files_together(tmp_path: Path) -> None:
    program = shutil.which("docker-compose")
    assert program, "expected docker-compose on the PATH, found none; apt-get install docker-compose"
    for name in {*MAIN["secrets"], *OVERRIDE["secrets"]}:
        (tmp_path / name).write_text("x")
    environment = {**os.environ, "DCAO_SECRETS_FOLDER": str(tmp_path)}
    done = subprocess.run(
        [program, "--profile", "demo", "config"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    merged = yaml.safe_load(done.stdout)
    assert set(merged["services"]) == set(OVERRIDE["services"])
    assert merged["services"]["controller"]["build"]["dockerfile"] == "deploy/controller.Dockerfile"
