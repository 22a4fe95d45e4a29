"""What is checked on the running stack, one function a promise; each returns the sentence that is printed."""

from __future__ import annotations

import itertools
import json
import time

from ask import Controller, Prometheus, get, series_names
from stack import Stack, docker, expect, inspect, log_lines, wait_for

PROJECT = "demo"
RUNS = ("digits-a", "digits-b")
WORKERS = ("worker-a", "worker-b")
OURS = {"controller": "10001", "proxy": "99", "redis": "999", "prometheus": "65534", "worker-a": "10001"}
"""User that each container's process runs as."""


def hardened(stack: Stack) -> str:
    """No container runs as root, writes to its root or has a capability left."""
    for service, user in OURS.items():
        for container in stack.containers(service):
            host = inspect(container)["HostConfig"]
            expect(host["ReadonlyRootfs"], f"expected {service} to have a read-only root, got a writable one")
            expect(host["CapDrop"] == ["ALL"], f"expected {service} to drop ALL capabilities, got {host['CapDrop']}")
            expect(
                host["SecurityOpt"] == ["no-new-privileges:true"],
                f"expected {service} to gain no privileges, got {host['SecurityOpt']}",
            )
            got = docker("exec", container, "id", "-u")
            expect(got == user, f"expected {service} to run as {user}, got {got}")
            status = docker("exec", container, "grep", "CapEff", "/proc/self/status").split()[1]
            expect(int(status, 16) == 0, f"expected {service} to have no capability, got {status}")
    return f"{', '.join(OURS)}: not root, read-only root, no capabilities"


def closed(stack: Stack) -> str:
    """Without a key nothing is answered but health; metrics are not published at all."""
    runs = f"{stack.proxy}/v1/projects/{PROJECT}/runs"
    for path, status in [(runs, 401), (f"{stack.proxy}/metrics", 404), (f"{stack.proxy}/%6detrics/runs", 404)]:
        got = get(path).status
        expect(got == status, f"expected {status} without a key from {path}, got {got}")
    expect(get(runs, "dcao_000000000000_" + "0" * 48).status == 401, "expected 401 for a wrong key")
    expect(get(f"{stack.proxy}/healthz").status == 200, "expected /healthz through the proxy to answer 200")
    return "the published port refuses strangers (401) and shows no metrics (404)"


def training(controller: Controller, at_least: int, seconds: float = 120) -> str:
    """Both runs have at least that many decisions."""
    counts = wait_for(
        f"{at_least} decisions of both runs",
        lambda: (found := [len(controller.history(PROJECT, run)) for run in RUNS]) and min(found) >= at_least and found,
        seconds,
    )
    return f"both workers train through the proxy: {counts[0]} and {counts[1]} decisions so far"


def creators(stack: Stack, run: str) -> set[str]:
    """Addresses that the controllers' audit trails say created the run."""
    entries = [
        entry
        for container in stack.containers("controller")
        for line in log_lines(container)
        if line.startswith("{") and (entry := json.loads(line)).get("event") == "audit: changed"
    ]
    return {entry["client"] for entry in entries if entry["path"].endswith(f"/runs/{run}")}


def traced(stack: Stack) -> str:
    """The audit trail says which worker created a run, not that the proxy did."""
    for worker, run in zip(WORKERS, RUNS, strict=True):
        networks = inspect(stack.containers(worker)[0])["NetworkSettings"]["Networks"]
        (address,) = (network["IPAddress"] for network in networks.values())
        found = wait_for(f"an entry in the audit trail about {run}", lambda run=run: creators(stack, run), 10)  # type: ignore[misc]
        expect(found == {address}, f"expected {run} to have been created from {address}, the trail says {found}")
    return "the audit trail names the worker behind the proxy"


def moving(controller: Controller, seconds: float = 60) -> list[int]:
    """Decisions of each run once each has more than when this was called, or has finished.

    Raises:
        CheckError: one stood still.
    """
    before = [len(controller.history(PROJECT, run)) for run in RUNS]

    def grown() -> list[int]:
        now = [len(controller.history(PROJECT, run)) for run in RUNS]
        done = [controller.run(PROJECT, run)["status"] == "finished" for run in RUNS]
        moved = all(new > old or end for new, old, end in zip(now, before, done, strict=True))
        return now if moved else []

    return wait_for("both runs to go on", grown, seconds)


def controller_dies(stack: Stack, controller: Controller) -> str:
    """One of two replicas is killed: the other serves at once, and the killed one joins again."""
    victim, other = stack.containers("controller")
    docker("kill", victim)
    killed = time.monotonic()
    failures = 0
    while time.monotonic() < killed + 3:
        failures += get(f"{stack.proxy}/v1/policies", (stack.secrets / "api_key").read_text()).status != 200
        time.sleep(0.02)
    expect(failures == 0, f"expected no request through the proxy to fail after the kill, got {failures} failures")
    expect(inspect(other)["State"]["Running"], "expected the other replica to run")
    counts = moving(controller)
    docker("start", victim)
    wait_for("both replicas healthy again", lambda: stack.healthy("controller", 2), 60)
    return f"a killed controller costs no request, the runs went on ({counts}), and it came back"


def redis_dies(stack: Stack, controller: Controller) -> str:
    """Redis crashes: its restart policy brings it back, with everything that was on disk, and the runs go on."""
    (redis,) = stack.containers("redis")
    time.sleep(1.1)  # what is acknowledged is on disk after a second (appendfsync everysec)
    before = {run: controller.history(PROJECT, run) for run in RUNS}
    docker("exec", redis, "sh", "-c", "kill -9 $(pidof redis-server)", check=False)
    wait_for("Redis to be restarted by its policy", lambda: inspect(redis)["RestartCount"] >= 1, 30)
    wait_for("Redis to be healthy again", lambda: stack.healthy("redis", 1), 60)
    counts = moving(controller)
    for run in RUNS:
        after = controller.history(PROJECT, run)[: len(before[run])]
        expect(after == before[run], f"expected the history of {run} from before the crash unchanged, got another")
    return f"a crashed Redis came back by itself with its history, and the runs went on ({counts})"


def store_away(stack: Stack, controller: Controller) -> str:
    """Redis is killed and stays away: the proxy goes on with replicas that are alive though none is ready."""
    (redis,) = stack.containers("redis")
    key = (stack.secrets / "api_key").read_text()
    docker("kill", redis)
    wait_for("no replica to be ready", lambda: get(f"{stack.proxy}/readyz").status == 503, 30)
    answers = []
    end = time.monotonic() + 5
    while time.monotonic() < end:
        answers.append(get(f"{stack.proxy}/v1/policies", key).status)
        time.sleep(0.02)
    failed = sum(status != 200 for status in answers)
    expect(failed == 0, f"expected answers while Redis is away, got {failed} failures of {len(answers)}")
    docker("start", redis)
    wait_for("Redis to be healthy again", lambda: stack.healthy("redis", 1), 60)
    wait_for("replicas to be ready again", lambda: get(f"{stack.proxy}/readyz").status == 200, 30)
    counts = moving(controller)
    return (
        f"with Redis killed the proxy answered {len(answers)} of {len(answers)} requests; runs went on after ({counts})"
    )


def scaled(stack: Stack, prometheus: Prometheus) -> str:
    """A third replica is found by the proxy and by Prometheus without a change anywhere."""
    stack.compose("up", "-d", "--no-build", "--no-recreate", "--scale", "controller=3", "controller")
    wait_for("three healthy controllers", lambda: stack.healthy("controller", 3), 60)
    targets = wait_for(
        "Prometheus to scrape three controllers",
        lambda: (up := prometheus.up("dcao-controller")) and len(up) == 3 and up,
        30,
    )
    servers = 'count(haproxy_server_status{proxy="ready",state="UP"} == 1)'
    wait_for(
        "the proxy to use three replicas",
        lambda: [float(v["value"][1]) for v in prometheus.query(servers)] == [3.0],
        30,
    )
    running = [worker for worker in WORKERS if inspect(stack.containers(worker)[0])["State"]["Running"]]
    expect(running == list(WORKERS), f"expected both workers to train through all of this, got only {running} running")
    return f"scaled to 3: Prometheus scrapes {', '.join(targets)}, the proxy balances over all"


def exposed(stack: Stack, path: str) -> str:
    """What a replica shows Prometheus at `path`."""
    program = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8081{path}', timeout=5).read().decode())"
    return docker("exec", stack.containers("controller")[0], "python", "-c", program)


def finished(stack: Stack, seconds: float = 600) -> str:
    """Both workers train to the end and exit with 0."""

    def codes() -> list[int] | None:
        states = [inspect(stack.containers(worker)[0])["State"] for worker in WORKERS]
        return None if any(state["Running"] for state in states) else [state["ExitCode"] for state in states]

    got = wait_for("both workers to end", codes, seconds, every=1)
    expect(got == [0, 0], f"expected both workers to exit with 0, got {got}")
    return "both workers trained to the end and exited with 0"


def complete(controller: Controller) -> str:
    """No decision is missing, doubled or out of order, and none came sooner than the one before it said."""
    said = []
    for run in RUNS:
        described = controller.run(PROJECT, run)
        expect(described["status"] == "finished", f"expected {run} to be finished, got {described['status']}")
        records = controller.history(PROJECT, run)
        steps = [record["step"] for record in records]
        expect(len(steps) > 5, f"expected more than 5 decisions of {run}, got {len(steps)}")
        expect(steps == sorted(set(steps)), f"expected the steps of {run} in order and once each, got {steps}")
        strays = [record["step"] for record in records if record["deviates"]]
        expect(
            not strays, f"expected what was decided in an outage to be what {run} would have got, not so at {strays}"
        )
        for record, following in itertools.pairwise(records):
            step, said_next = record["step"], record["step"] + record["decision"]["next_probe_in"]
            got = following["decision"]["version"] - record["decision"]["version"]
            expect(got == 1, f"expected the decision after step {step} of {run} to be the next one, {got} were made")
            # Later where the budget of the probes says so, never sooner.
            expect(
                following["step"] >= said_next,
                f"expected a decision of {run} at step {said_next} or later after {step}, got {following['step']}",
            )
        late = sum(record["origin"] == "backfill" for record in records)
        said.append(f"{run} {len(steps)} decisions to step {steps[-1]}, {late} of them backfilled")
    return f"the history is complete: {'; '.join(said)}"


def recorded(prometheus: Prometheus, seen: dict[str, set[str]], since: float) -> str:
    """Every series that a replica exposed is in Prometheus; those of a run for both runs, each from one target."""
    known = set(prometheus.api("label/__name__/values"))
    for where, names in seen.items():
        missing = sorted(names - known)
        expect(not missing, f"expected every series {where} in Prometheus, missing: {missing}")
    times = {"start": f"{since:.0f}", "end": f"{time.time():.0f}"}
    for run in RUNS:
        found = prometheus.api("series", **{"match[]": f'{{project="{PROJECT}",run="{run}"}}'}, **times)
        names = {series["__name__"] for series in found}
        missing = sorted(seen["of a run"] - names)
        expect(not missing, f"expected every series of {run}, missing: {missing}")
        scraped = {series["instance"] for series in found if "instance" in series}
        expect(scraped == {"proxy:8081"}, f"expected the series of {run} from one target, got {scraped}")
    groups = prometheus.api("rules")["groups"]
    sick = [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]
    expect(not sick, f"expected every rule to evaluate, got failures of {sick}")
    counts = ", ".join(f"{len(names)} {where}" for where, names in seen.items())
    return f"Prometheus has every series ({counts}), runs scraped once; {len(groups)} rule groups evaluate"


def names_exposed(stack: Stack) -> dict[str, set[str]]:
    """Names of the series at each path, and of those that a run has, while both runs are live."""
    service, runs = (exposed(stack, path) for path in ("/metrics", "/metrics/runs"))
    one = "\n".join(line for line in runs.splitlines() if f'run="{RUNS[0]}"' in line)
    return {"/metrics": series_names(service), "/metrics/runs": series_names(runs), "of a run": series_names(one)}
