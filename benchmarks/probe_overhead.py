"""What a probe costs a training run: no probe, the automatic settings, and the proposal to the letter, side
by side.

    python benchmarks/probe_overhead.py --steps 600

The three runs take turns in blocks of steps, so that what else the machine does hits all alike. T_c = 100;
automatic settings are the budget's (5 %); the letter is 20 products on the full batch by double backward,
random start.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from probe_workloads import TEXT, Workload, step, train, workloads

from dcao_client.spectrum import Budget, Probe, ProbeSettings
from dcao_client.spectrum.torch.batches import measured_examples

BLOCK = 50
LETTER = ProbeSettings(
    max_matvecs=20, rho_tol=1e-9, gamma_tol=1e-9, gamma_floor=0.0, start="random", matvec="double_backward",
    preconditioned=False,
)  # fmt: skip


@dataclass
class Run:
    """One training with its own model, and the time it took."""

    name: str
    work: Workload
    kind: str
    interval: int
    wall: float = 0.0
    cpu: float = 0.0
    probes: int = 0
    taken: int = 0
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model, self.optimizer, self.stream = train(self.work, 5)
        self.budget = Budget(overhead=0.05, interval=self.interval)
        settings = LETTER
        if self.kind == "auto":
            part = measured_examples(self.model, self.work.batch_size, self.budget.share())
            settings = ProbeSettings(probe_batch=part)
        self.probe = Probe(self.model, self.work.loss, optimizer=self.optimizer, settings=settings)

    def block(self) -> None:
        """BLOCK steps, with probes when they are due."""
        began, used = time.perf_counter(), time.process_time()
        for _ in range(BLOCK):
            batch = next(self.stream)
            start = time.perf_counter()
            self.losses.append(step(self.work, self.model, self.optimizer, batch))
            self.taken += 1
            if self.kind == "none":
                continue
            self.budget.stepped(time.perf_counter() - start)
            due = self.budget.plan(self.taken).action if self.kind == "auto" else None
            if self.kind == "letter":
                due = "measure" if self.taken % self.interval == 0 else "none"
            if due == "measure":
                self.budget.probed(self.probe.measure(batch).seconds, "measure")
                self.probes += 1
            elif due == "track":
                self.budget.probed(self.probe.track(batch).seconds, "track")
        self.wall += time.perf_counter() - began
        self.cpu += time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["cnn", "resnet", "gpt"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--interval", type=int, default=100)
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.models:
        work = workloads(arguments.text)[name]
        runs = [Run(name, work, kind, arguments.interval) for kind in ("none", "auto", "letter")]
        for _ in range(arguments.steps // BLOCK):
            for run in runs:
                run.block()
        plain = runs[0]
        for run in runs:
            wall, cpu = run.wall / plain.wall - 1, run.cpu / plain.cpu - 1
            same = run.losses == plain.losses
            print(
                f"{name:8} {run.kind:8} {run.probes:3d} probes  overhead: {wall:6.1%} wall, {cpu:6.1%} CPU, "
                f"{run.budget.spent:6.1%} by its own account  losses {'bit-identical' if same else 'DIFFER'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
