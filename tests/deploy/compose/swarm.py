"""The same compose file on a Swarm: `docker stack deploy` takes it, serves, scales and rolls an update."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

from ask import get
from stack import ROOT, CheckError, docker, expect, wait_for

STACK = "dcao-swarm-test"
PORT = 18081


def _deploy(secrets: Path) -> str:
    """What `docker stack deploy` says.

    Raises:
        CheckError: the file was refused, or a key of it ignored.
    """
    environment = {
        **os.environ,
        "DCAO_SECRETS_FOLDER": str(secrets),
        "DCAO_PUBLISH": str(PORT),
        "DCAO_GRAFANA_PUBLISH": "13001",
    }
    command = ["docker", "stack", "deploy", "--resolve-image", "never", "-c", "docker-compose.yml", STACK]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"expected docker stack deploy to take the file, got: {done.stderr}")
    said = done.stdout + done.stderr
    expect("gnoring" not in said, f"expected no key to be ignored, got: {said}")
    return said


def _running(service: str) -> int:
    """Tasks of the service that run and that the engine's health check finds well."""
    ids = docker("ps", "-q", "-f", f"label=com.docker.swarm.service.name={STACK}_{service}", "-f", "health=healthy")
    return len(ids.split())


def _targets() -> int:
    """Controllers that Prometheus scrapes; it is asked in its container, for nothing of it is published."""
    (container,) = docker("ps", "-q", "-f", f"label=com.docker.swarm.service.name={STACK}_prometheus").split()
    url = "http://127.0.0.1:9090/api/v1/query?query=sum(up{job=%22dcao-controller%22})"
    result = json.loads(docker("exec", container, "wget", "-q", "-O", "-", url))["data"]["result"]
    return int(float(result[0]["value"][1])) if result else 0


def _proxy() -> tuple[str, str]:
    """Where the proxy is asked, and how that is called.

    A Swarm publishes ports with IPVS. A kernel without it publishes none, and the proxy is asked at its address on the
    engine's own bridge instead.
    """
    if Path("/proc/net/ip_vs").exists():
        return f"http://127.0.0.1:{PORT}", "the published port"
    (container,) = docker("ps", "-q", "--no-trunc", "-f", f"label=com.docker.swarm.service.name={STACK}_proxy").split()
    bridge = json.loads(docker("network", "inspect", "docker_gwbridge"))[0]["Containers"]
    return (
        f"http://{bridge[container]['IPv4Address'].split('/')[0]}:8080",
        "the proxy's bridge (this kernel has no IPVS)",
    )


def _rolls(url: str, key: str) -> int:
    """Requests answered while every controller is replaced, one after another.

    Raises:
        CheckError: one of them failed.
    """
    stop = threading.Event()
    statuses: list[object] = []

    def ask() -> None:
        while not stop.wait(0.05):
            try:
                statuses.append(get(url, key).status)
            except OSError as error:
                statuses.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        docker("service", "update", "--force", "--quiet", f"{STACK}_controller")
    finally:
        stop.set()
        asking.join()
    failed = [status for status in statuses if status != 200]
    expect(not failed, f"expected every request during the update to be answered, got {failed[:5]} ({len(failed)})")
    return len(statuses)


def check(secrets: Path, services: list[str]) -> list[str]:
    """Deploys, checks and removes; the sentences to print.

    Args:
        secrets: folder of the secrets.
        services: those whose image there is.
    """
    key = (secrets / "api_key").read_text()
    docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        docker("node", "update", "--label-add", "dcao.store=true", docker("info", "-f", "{{.Swarm.NodeID}}"))
        _deploy(secrets)
        said = ["docker stack deploy takes the same file, and ignores and refuses nothing in it"]
        for service in services:
            wanted = 2 if service == "controller" else 1
            wait_for(f"{wanted} of {service}", lambda s=service, w=wanted: _running(s) == w, 120)  # type: ignore[misc]
        address, how = _proxy()
        url = f"{address}/v1/policies"
        answer = wait_for(f"an answer through {how}", lambda: (got := get(url, key)).status == 200 and got, 30)
        expect("paper" in answer.text, f"expected the policies, got {answer.text[:200]}")
        wait_for("Prometheus to find both replicas by name", lambda: _targets() == 2, 60)
        said.append(f"{', '.join(services)} run on it and answer through {how}; Prometheus finds both replicas by name")
        said.append(f"a rolling update of the controllers lost none of {_rolls(url, key)} requests")
        return said
    except CheckError:
        print(docker("stack", "ps", "--no-trunc", "--format", "{{.Name}} {{.CurrentState}} {{.Error}}", STACK))
        raise
    finally:
        docker("stack", "rm", STACK, check=False)
        wait_for("the stack to be gone", lambda: not docker("ps", "-q", "-f", f"name={STACK}"), 60)
        docker("swarm", "leave", "--force")
        # The engine keeps this bridge and its rules, which would rewrite the addresses of the next network there.
        wait_for("the Swarm's bridge to be gone", lambda: docker("network", "rm", "docker_gwbridge"), 30)
        volumes = docker("volume", "ls", "-q", "-f", f"label=com.docker.stack.namespace={STACK}").split()
        if volumes:
            wait_for("its volumes to be gone", lambda: docker("volume", "rm", *volumes), 30)
