"""Trains one run and returns its record."""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from dcao_experiments.methods import METHODS, Trained
from dcao_experiments.workloads.small import WORKLOADS, loss

LOOKS = 20
MOST_DECISIONS = 200  # kept of a run, evenly


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


@dataclass
class Watched:
    """What is seen of a run while it trains.

    Attributes:
        looks: step, metric and CPU seconds of training so far; the metric of the point that would be used.
        losses: of every batch, as trained.
        decisions: step, ρ, edge ratio and rate of every decision of ours.
        factors: rate in use over the schedule's, at every step, where a law of ours moves it.
        probed: gradients that the probes cost.
    """

    looks: list[tuple[int, float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    decisions: list[tuple[int, float | None, float | None, float]] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    probed: float = 0.0


def train(run: Run) -> dict[str, Any]:
    """The record of a run: metric at twenty looks, the last one final; NaN is recorded as lost."""
    started = time.perf_counter()
    made, seen, meter = _trained(run)
    steps = len(seen.losses)
    return {
        **asdict(run), "batch": run.batch or WORKLOADS[run.workload].batch, "steps": steps, "key": run.key(),
        "final": seen.looks[-1][1], "looks": seen.looks, **_stability(seen),
        "probe_share": (seen.probed + made.extra()) / steps, "cpu_share": meter.share, "cpu_seconds": meter.training,
        "matvec": _kind(made), "seconds": round(time.perf_counter() - started, 2), **environment(),
    }  # fmt: skip


def _trained(run: Run) -> tuple[Trained, Watched, CpuMeter]:
    workload, method = WORKLOADS[run.workload], METHODS[run.method]
    batch, steps = run.batch or workload.batch, run.steps or workload.steps
    options: dict[str, Any] = dict(run.options)
    if method.placebo_of is not None:
        options["factors"] = _shuffled(run, method.placebo_of)
    torch.manual_seed(run.seed)
    model = workload.build()
    made = method.make(model, run.rate, steps, options)
    seen, meter = Watched(), CpuMeter(made.control)
    for step in range(steps):
        sample = workload.sample(run.seed, step, batch, run.noise)
        began = time.process_time()
        before = None if made.control is None else made.control.decision
        made.before(sample)
        made.optimizer.zero_grad()
        value = loss(model, sample)
        value.backward()  # type: ignore[no-untyped-call]
        made.step(sample, value)
        meter.training += time.process_time() - began
        seen.losses.append(float(value.detach()))
        _note(seen, made, before, step, batch)
        if (step + 1) % max(steps // LOOKS, 1) == 0 or step + 1 == steps:
            made.use()
            metric = workload.judge(model)
            made.go_on()
            lost = 99.0 if workload.lower_is_better else 0.0
            seen.looks.append((step + 1, metric if math.isfinite(metric) else lost, round(meter.training, 3)))
    return made, seen, meter


def _shuffled(run: Run, original: str) -> list[float]:
    """The factors of the original's run, in another order: the same for the same seed."""
    _, seen, _ = _trained(replace(run, method=original))
    factors = list(seen.factors)
    random.Random(run.seed).shuffle(factors)  # noqa: S311 no secret
    return factors


def _note(seen: Watched, made: Trained, before: Any, step: int, batch: int) -> None:
    """What this step's decision was and what its probe cost: a gradient of its own, and one for each product."""
    control = made.control
    if control is None:
        return
    decision = control.decision
    if decision is not None:
        seen.factors.append(decision.multipliers.lr)
    if decision is None or decision is before:
        return
    spectrum = control.spectrum
    seen.decisions.append((step, None if spectrum is None else spectrum.rho, decision.edge_ratio, decision.lr))
    if spectrum is not None:
        seen.probed += (1 + spectrum.matvecs) * spectrum.examples / batch


def _stability(seen: Watched) -> dict[str, Any]:
    """The proposal's §2.6: how much loss and ρ vary, and how long the run was past the edge."""
    later = seen.losses[len(seen.losses) // 2 :]
    sharp = [math.log(rho) for _, rho, _, _ in seen.decisions if rho is not None and rho > 0]
    ratios = [e for _, _, e, _ in seen.decisions if e is not None]
    every = max(len(seen.decisions) // MOST_DECISIONS, 1)
    finite = [value for value in later if math.isfinite(value)]
    return {
        "loss_variance": statistics.pvariance(finite) if len(finite) > 1 else None,
        "log_rho_variance": statistics.pvariance(sharp) if len(sharp) > 1 else None,
        "past_the_edge": sum(e > 1 for e in ratios) / len(ratios) if ratios else None,
        "decisions": seen.decisions[::every],
    }


@functools.lru_cache(maxsize=1)
def environment() -> dict[str, str]:
    """Where a record was made. `commit` ends in + where files differ from it; empty where there is no repository."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],  # noqa: S607 whichever git the user has
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "commit": told.stdout.strip(), "torch": torch.__version__, "python": platform.python_version(),
        "machine": f"{platform.machine()} {platform.system()}",
    }  # fmt: skip


def _kind(made: Trained) -> str | None:
    spectrum = None if made.control is None else made.control.spectrum
    return None if spectrum is None else spectrum.matvec


def train_quietly(run: Run, trained: Callable[[Run], dict[str, Any]] = train) -> dict[str, Any]:
    """The record, or what went wrong in its place: one run that fails must not end a night of them."""
    os.environ["DCAO_JOURNAL"] = "0"  # nobody will send what is decided here
    torch.set_num_threads(1)
    try:
        return trained(run)
    except Exception as error:  # noqa: BLE001 the record says what it was
        return {**asdict(run), "key": run.key(), "error": f"{type(error).__name__}: {error}"[:300]}
