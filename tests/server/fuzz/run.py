"""The fuzz proof: `python -m tests.server.fuzz.run --examples 700` (schemathesis, all checks on, phase by phase).

Starts a controller with API keys on SQLite, or on a Redis of its own with `--redis`, some runs in it, and lets
schemathesis at its OpenAPI document. Exits 1 on an answer of 5xx, an undocumented one, any other failed check, or a
phase that was not done in its time. Says every half minute how far it is.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, create_key
from tests.faults.cluster import Process, free_port
from tests.server.operation.process import running

HERE = Path(__file__).parent
PROJECT = "fuzz"
POLICIES = ("default", "paper", "edge", "constant")
PHASES = ("examples,coverage", "fuzzing", "stateful")
SAID_EVERY = 30.0  # s


class Outcome(NamedTuple):
    """What schemathesis said: its exit code, how many cases it made, and its whole report."""

    code: int
    cases: int
    report: str
    failures: list[str]
    """Requests that failed inside, from the controller's log."""


def fuzz(folder: Path, *, examples: int, seed: int, redis: bool = False, seconds: float = 3000.0) -> Outcome:
    """One run of schemathesis.

    Args:
        folder: for data, logs and the report.
        examples: for each operation and phase, at most.
        seed: of the generated data.
        redis: on a Redis instead of SQLite.
        seconds: for all phases together; what is not done then has failed.
    """
    ends = time.monotonic() + seconds
    key, record = create_key({"*": Scope.ADMIN})
    KeyFile(folder / "keys.jsonl").add(record)
    settings = {
        "DCAO_API_KEYS_FILE": str(folder / "keys.jsonl"),
        "DCAO_RATE_LIMIT": "0",
        "DCAO_DATA": str(folder),
    }
    with (
        _redis(folder, wanted=redis) as more,
        running(folder / "log", "-m", "dcao_server.main", "serve", **settings, **more) as server,
    ):
        world = folder / "world.json"
        world.write_text(json.dumps(_make_world(server.url, key, seed)))
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file", str(HERE / "schemathesis.toml"),
            "run", f"{server.url}/openapi.json",
            "--header", f"Authorization: Bearer {key}",
            "--checks", "all", "--max-examples", str(examples), "--seed", str(seed),
            "--continue-on-failure", "--warnings", "off", "--no-color", "--generation-database", "none",
        ]  # fmt: skip
        environ = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.server.fuzz.hooks", "DCAO_FUZZ_WORLD": str(world)}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parents[2]), os.environ.get("PYTHONPATH")]))
        codes, reports = [], []
        for phase in PHASES:
            code, report = _watched([*command, "--phases", phase], environ, folder, phase, ends)
            codes.append(code)
            reports.append(report)
        failures = [line["exception"][-800:] for line in server.lines() if line["event"] == "request failed"]
    cases = sum(_cases(report) for report in reports)
    return Outcome(max(codes, key=abs), cases, "\n".join(reports), failures)


def _watched(command: list[str], environ: dict[str, str], folder: Path, phase: str, ends: float) -> tuple[int, str]:
    """One phase: its exit code and report; killed at its end, and then a failure."""
    began = time.monotonic()
    report = folder / "report"
    with report.open("wb") as out:
        process = subprocess.Popen(command, env=environ, stdout=out, stderr=subprocess.STDOUT, cwd=folder)
        try:
            while True:
                left = ends - time.monotonic()
                try:
                    code = process.wait(max(0.0, min(SAID_EVERY, left)))
                    break
                except subprocess.TimeoutExpired:
                    log = (folder / "log").stat().st_size / 2**20
                    print(
                        f"{phase}: {time.monotonic() - began:.0f} s, {log:.1f} MiB of log", file=sys.stderr, flush=True
                    )
                    if left <= 0:
                        code = -1
                        break
        finally:
            process.kill()
            process.wait()
    text = report.read_text(errors="replace") + ("" if code >= 0 else f"\n{phase} was not done in time\n")
    print(
        f"{phase}: {_cases(text)} cases in {time.monotonic() - began:.0f} s, exit code {code}",
        file=sys.stderr,
        flush=True,
    )
    return code, text


def _cases(report: str) -> int:
    made = re.search(r"(\d[\d,]*) generated", report)
    return int(made[1].replace(",", "")) if made else 0


@contextmanager
def _redis(folder: Path, *, wanted: bool) -> Iterator[dict[str, str]]:
    """The settings of a Redis that lives as long as the block; none if it is not wanted."""
    if not wanted:
        yield {}
        return
    program = shutil.which("redis-server")
    if program is None:
        raise AssertionError("expected redis-server on the PATH; `make components` installs it")
    port = free_port()
    process = Process("redis", [program, "--port", str(port), "--save", "", "--dir", str(folder)], folder / "redis.log")
    process.start()
    try:
        # Answers are at stake here, not times: a busy machine must not look like a store that is away.
        yield {"DCAO_REDIS_URL": f"redis://127.0.0.1:{port}", "DCAO_REDIS_TIMEOUT_SECONDS": "10"}
    finally:
        process.kill()


def _make_world(url: str, key: str, seed: int) -> dict[str, object]:
    """A few runs of different policies, with a few decisions each."""
    runs, tokens = [], []
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"{url}/v1/projects/{PROJECT}/runs/", headers=headers, trust_env=False) as client:
        for policy in POLICIES:
            spec = {"optimizer": "sgd", "base": {"lr": 0.1, "momentum": 0.9}, "policy": {"name": policy}}
            client.put(policy, json=spec).raise_for_status()
            for step in range(0, 50, 10):
                reply = client.post(f"{policy}/decisions", json={"step": step, "rho": 9.0 + step, "gamma": 2.0})
                reply.raise_for_status()
                tokens.append((reply.json()["state"], reply.json()["version"]))
            runs.append(policy)
    return {"seed": seed, "project": PROJECT, "runs": runs, "tokens": tokens}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.server.fuzz.run", description=__doc__)
    parser.add_argument("--examples", type=int, default=700, help="for each operation and phase, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--redis", action="store_true", help="on Redis instead of SQLite")
    parser.add_argument("--seconds", type=float, default=3000.0, help="for all phases together")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = fuzz(
            Path(folder),
            examples=arguments.examples,
            seed=arguments.seed,
            redis=arguments.redis,
            seconds=arguments.seconds,
        )
    print(outcome.report)
    print(*outcome.failures, sep="\n")
    print(f"{outcome.cases} cases in {time.monotonic() - started:.0f} s, exit code {outcome.code}")
    return 1 if outcome.code or outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
