"""Trains one run and records it; runs many in processes, and goes on where a file ends."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import platform
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
        return json.dumps(asdict(self), sort_keys=True)


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
    for step in range(steps):
        sample = workload.sample(run.seed, step, batch, run.noise)
        seen = None if made.control is None else made.control.decision
        made.before(sample)
        made.optimizer.zero_grad()
        loss(model, sample).backward()  # type: ignore[no-untyped-call]
        made.step(sample)
        probed += _gradients(made, seen, batch)
        if (step + 1) % max(steps // LOOKS, 1) == 0 or step + 1 == steps:
            made.use()
            value = workload.judge(model)
            made.go_on()
            looks.append((step + 1, value if math.isfinite(value) else (99.0 if workload.lower_is_better else 0.0)))
    return {
        **asdict(run), "batch": batch, "steps": steps, "key": run.key(), "final": looks[-1][1], "looks": looks,
        "probe_share": probed / steps, "seconds": round(time.perf_counter() - started, 2),
        "torch": torch.__version__, "machine": platform.machine(),
    }  # fmt: skip


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


def run_all(runs: Iterable[Run], out: Path, jobs: int, until: float = math.inf) -> None:
    """Trains what the file does not hold yet, one line a run."""
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {record["key"] for record in read(out) if "error" not in record}
    todo = [run for run in runs if run.key() not in done]
    print(f"{len(done)} recorded, {len(todo)} to train", flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    started = time.time()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool, out.open("a") as file:
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


def read(out: Path) -> list[dict[str, Any]]:
    """The records of a file; none if there is no file."""
    if not out.exists():
        return []
    return [json.loads(line) for line in out.read_text().splitlines() if line.strip()]
