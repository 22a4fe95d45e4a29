"""Trains one run and records it; runs many in processes, and goes on where a file ends."""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
import os
import platform
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from benchmarks.law.methods import METHODS, Trained
from benchmarks.law.workloads import WORKLOADS, loss

LOOKS = 20


@dataclass(frozen=True)
class Run:
    """What identifies a run: nothing else changes its result."""

    workload: str
    method: str
    seed: int
    rate: float = 0.0
    batch: int = 0  # 0: the workload's
    steps: int = 0
    noise: float = 0.0
    options: dict[str, float] = field(default_factory=dict)

    def key(self) -> str:
        """What is looked for in a file before training. What was changed since is another run."""
        return json.dumps({**asdict(self), **revisions(self.workload, self.method)}, sort_keys=True)


def revisions(workload: str, method: str) -> dict[str, int]:
    """Those of a workload and a method that are not the first."""
    found = {"revision": METHODS[method].revision, "workload_revision": WORKLOADS[workload].revision}
    return {name: number for name, number in found.items() if number > 1}


class CpuMeter:
    """CPU seconds of training without looks, and of our part in it; other processes disturb them little."""

    def __init__(self, control: Any) -> None:
        self.training = self.control = 0.0
        if control is not None:
            self._original, control.step = control.step, self._timed

    def _timed(self, *args: Any) -> Any:
        started = time.process_time()
        try:
            return self._original(*args)
        finally:
            self.control += time.process_time() - started

    @property
    def share(self) -> float:
        """Probes, decisions and the search for a kind of product, over the training without them."""
        return self.control / max(self.training - self.control, 1e-9)


def train(run: Run) -> dict[str, Any]:
    """The record of a run: metric at twenty looks, the last one final; NaN is recorded as lost."""
    workload, method = WORKLOADS[run.workload], METHODS[run.method]
    batch, steps = run.batch or workload.batch, run.steps or workload.steps
    torch.manual_seed(run.seed)
    model = workload.build()
    started = time.perf_counter()
    made = method.make(model, run.rate, steps, dict(run.options))
    looks: list[tuple[int, float]] = []
    probed = 0.0
    meter = CpuMeter(made.control)
    for step in range(steps):
        sample = workload.sample(run.seed, step, batch, run.noise)
        began = time.process_time()
        seen = None if made.control is None else made.control.decision
        made.before(sample)
        made.optimizer.zero_grad()
        loss(model, sample).backward()  # type: ignore[no-untyped-call]
        made.step(sample)
        meter.training += time.process_time() - began
        probed += _gradients(made, seen, batch)
        if (step + 1) % max(steps // LOOKS, 1) == 0 or step + 1 == steps:
            made.use()
            value = workload.judge(model)
            made.go_on()
            looks.append((step + 1, value if math.isfinite(value) else (99.0 if workload.lower_is_better else 0.0)))
    return {
        **asdict(run), "batch": batch, "steps": steps, "key": run.key(), "final": looks[-1][1], "looks": looks,
        "probe_share": probed / steps, "cpu_share": meter.share, "matvec": _kind(made),
        "seconds": round(time.perf_counter() - started, 2), **environment(),
    }  # fmt: skip


@functools.lru_cache(maxsize=1)
def environment() -> dict[str, str]:
    """Where a record was made. `commit` ends in + where files differ from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=Path(__file__).parent, capture_output=True, text=True,
    )  # fmt: skip
    return {
        "commit": told.stdout.strip(), "torch": torch.__version__, "python": platform.python_version(),
        "machine": platform.machine(),
    }  # fmt: skip


def _kind(made: Trained) -> str | None:
    spectrum = None if made.control is None else made.control.spectrum
    return None if spectrum is None else spectrum.matvec


def _gradients(made: Trained, before: Any, batch: int) -> float:
    """What the probe of this step cost, in gradients of a whole batch: one for its own, one for each product."""
    control = made.control
    if control is None or control.decision is before or control.spectrum is None:
        return 0.0
    return (1 + control.spectrum.matvecs) * control.spectrum.examples / batch


def _train_quietly(run: Run) -> dict[str, Any]:
    torch.set_num_threads(1)
    try:
        return train(run)
    except Exception as error:  # one run that fails must not end a night of them; the record says why
        return {**asdict(run), "key": run.key(), "error": f"{type(error).__name__}: {error}"[:300]}


def end_with_parent() -> None:
    """Ends this process when the one that started it ends, however that happened: nobody is left to record for."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()  # a pipe that the system closes, also for one that was killed
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_all(runs: Iterable[Run], out: Path, jobs: int, until: float = math.inf) -> None:
    """Trains what the file does not hold yet, one line a run. A peer that is not installed is named and left out."""
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {record["key"] for record in read(out) if "error" not in record}
    todo = [run for run in runs if run.key() not in done]
    missing = {METHODS[run.method].package for run in todo if not METHODS[run.method].installed()}
    for package in sorted(filter(None, missing)):
        print(f"left out: {package} is not installed; pip install --no-deps {package}", flush=True)
    todo = [run for run in todo if METHODS[run.method].installed()]
    print(f"{len(done)} recorded, {len(todo)} to train", flush=True)
    if not todo:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    started = time.time()
    _end_line(out)
    with multiprocessing.get_context("spawn").Pool(jobs, end_with_parent) as pool, out.open("a") as file:
        for n, record in enumerate(pool.imap_unordered(_train_quietly, todo), 1):
            file.write(json.dumps(record) + "\n")
            file.flush()
            left = (time.time() - started) / n * (len(todo) - n)
            what = record.get("error") or f"{record['final']:.4f}"
            print(
                f"{n}/{len(todo)} {record['workload']} {record['method']} {what} · {left / 60:.0f} min left", flush=True
            )
            if time.time() > until:
                pool.terminate()
                return


def _end_line(out: Path) -> None:
    """A record that was cut short keeps its line to itself."""
    if out.exists() and not out.read_bytes().endswith(b"\n"):
        with out.open("a") as file:
            file.write("\n")


def read(out: Path) -> list[dict[str, Any]]:
    """The records of a file, none if there is no file: of each run the newest, and no failure that was made good.

    Left out: a line that was cut short when a run was killed, records of what a method or a workload was before.
    """
    found: dict[str, dict[str, Any]] = {}
    for line in out.read_text().splitlines() if out.exists() else []:
        try:
            record = json.loads(line)
            identity = json.loads(record["key"])
        except (ValueError, KeyError, TypeError):
            continue
        if record["method"] not in METHODS or record["workload"] not in WORKLOADS:
            continue
        known = {name: number for name, number in identity.items() if name in ("revision", "workload_revision")}
        if known != revisions(record["workload"], record["method"]):
            continue
        if "error" not in record or "error" in found.get(record["key"], {"error": ""}):
            found[record["key"]] = record
    return list(found.values())
