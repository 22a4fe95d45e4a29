"""Why the push is 2.5, in the Muon form 1.2: the ratio η√G/r of runs at constant rates, and where it is at the best.

A path rate s·r/√G comes to rest where η√G/r = s. So s must be what the ratio is at the best constant rate, and a height
that the ratio never reaches has no fixed point: there the rate runs away, and only the ceiling holds it.
"""

from __future__ import annotations

import argparse
from typing import get_args

import torch

from dcao_client.hooks.forms import FormName
from dcao_client.hooks.muon import hidden_matrices
from dcao_client.hooks.path_meter import PathMeter
from dcao_client.hooks.schedule_free import ScheduleFree
from dcao_experiments.workloads.small import WORKLOADS, Workload, loss

FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
CENTRE = 0.008  # about the best constant rate of schedule-free Adam on all of them


def constant_rate(workload: Workload, rate: float, seed: int, form: FormName) -> tuple[float, float]:
    """Trains schedule-free steps of a form at a constant rate; the ratio at the end, and the metric."""
    torch.manual_seed(seed)
    model = workload.build()
    optimizer = ScheduleFree(model.parameters(), form=form, hidden=hidden_matrices(model))
    parameters = list(model.parameters())
    meter = PathMeter(parameters)
    for step in range(workload.steps):
        optimizer.zero_grad()
        loss(model, workload.sample(seed, step, workload.batch)).backward()  # type: ignore[no-untyped-call]
        moving = optimizer.moving()
        scaled, metric = optimizer.form.on_sketch(meter, parameters, moving.moments, moving.gradients(), step + 1)
        meter.saw(scaled, metric)
        optimizer.prepare()
        optimizer.update(rate)
        meter.came(meter.flat([optimizer.average(p) for p in parameters]), metric)
    optimizer.eval()
    return rate * meter.gradients / meter.distance, workload.judge(model)


def table(names: list[str], seed: int, form: FormName) -> str:
    """Markdown: ratio and metric at each rate."""
    torch.set_num_threads(1)
    rates = [CENTRE * f for f in FACTORS]
    lines = ["| workload | " + " | ".join(f"{r:g}" for r in rates) + " |", "|---" * (len(rates) + 1) + "|"]
    for name in names:
        cells = [constant_rate(WORKLOADS[name], rate, seed, form) for rate in rates]
        lines.append(f"| {name} | " + " | ".join(f"{ratio:.2f} ({metric:.3f})" for ratio, metric in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=["mlp", "cnn-he", "vit", "post-lm"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--form", choices=get_args(FormName), default="adam")
    arguments = parser.parse_args()
    print(table(arguments.workloads, arguments.seed, arguments.form))


if __name__ == "__main__":
    main()
