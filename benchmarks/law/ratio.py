"""Why the push is 2.5: the ratio η√G/r of runs at constant rates, and where it is at the best of them.

A path rate s·r/√G comes to rest where η√G/r = s. So s must be what the ratio is at the best constant rate, and a height
that the ratio never reaches has no fixed point: there the rate runs away, and only the ceiling holds it.
"""

from __future__ import annotations

import torch
from benchmarks.law.workloads import WORKLOADS, Workload, loss

from dcao_client.hooks.path_meter import PathMeter
from dcao_client.hooks.schedule_free import ScheduleFree

FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
CENTRE = 0.008  # about the best constant rate of schedule-free Adam on all of them


def constant_rate(workload: Workload, rate: float, seed: int) -> tuple[float, float]:
    """Trains schedule-free Adam at a constant rate; the ratio at the end, and the metric."""
    torch.manual_seed(seed)
    model = workload.build()
    optimizer = ScheduleFree(model.parameters())
    parameters = list(model.parameters())
    meter = PathMeter(parameters)
    for step in range(workload.steps):
        optimizer.zero_grad()
        loss(model, workload.sample(seed, step, workload.batch)).backward()  # type: ignore[no-untyped-call]
        optimizer.prepare()
        metric = meter.flat([optimizer.preconditioner(p, p.grad) for p in parameters if p.grad is not None])
        meter.saw(meter.flat([p.grad for p in parameters]), metric)
        optimizer.update(rate)
        meter.came(meter.flat([optimizer.average(p) for p in parameters]), metric)
    optimizer.eval()
    return rate * meter.gradients / meter.distance, workload.judge(model)


def table(names: list[str], seed: int) -> str:
    """Markdown: ratio and metric at each rate."""
    torch.set_num_threads(1)
    rates = [CENTRE * f for f in FACTORS]
    lines = ["| workload | " + " | ".join(f"{r:g}" for r in rates) + " |", "|---" * (len(rates) + 1) + "|"]
    for name in names:
        cells = [constant_rate(WORKLOADS[name], rate, seed) for rate in rates]
        lines.append(f"| {name} | " + " | ".join(f"{ratio:.2f} ({metric:.3f})" for ratio, metric in cells) + " |")
    return "\n".join(lines)
