"""Policies beside their plain alternatives: what the defaults rest on.

`python -m dcao_experiments.compare` trains the same network on the same batches under each policy and under plain SGD
at half, once and twice the learning rate, and under a placebo: the default policy's own multipliers in random order.
Everything is decided in-process. The table is Markdown; `--out` keeps every run as JSON lines.
"""

import json
import random
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from dcao_client import Attachment, attach
from dcao_client.hooks.param_groups import ParamGroups
from dcao_client.spectrum import ProbeSettings
from dcao_experiments.data import Images, load_digits, load_fashion_mnist
from dcao_experiments.models import small_cnn
from dcao_experiments.training import accuracy, batches, cross_entropy, train
from dcao_proto import Multipliers, PolicyChoice

PLAIN = {"sgd ×½": 0.5, "sgd": 1.0, "sgd ×2": 2.0}
POLICIES: dict[str, PolicyChoice] = {
    "paper": PolicyChoice(name="paper"),
    "linear": PolicyChoice(name="linear"),
    "power": PolicyChoice(name="power"),
    "edge": PolicyChoice(name="edge"),
    "default": PolicyChoice(name="default"),
    "default, η only": PolicyChoice(name="default", params={"kappa": 0.0, "mu": 0.0}),
    "default, λ₁ edge": PolicyChoice(name="default", params={"reference": "edge"}),
    "default, target 0.4": PolicyChoice(name="default", params={"target": 0.4}),
    "default, target 1": PolicyChoice(name="default", params={"target": 1.0}),
    "default, p 0.75": PolicyChoice(name="default", params={"exponent": 0.75}),
    "default, no smoothing": PolicyChoice(name="default", params={"smoothing": 0.0}),
}


@dataclass(frozen=True)
class Setup:
    """What all runs of a comparison share."""

    data: str
    schedule: str
    steps: int
    batch: int
    probe_interval: int
    probe_batch: int


@dataclass(frozen=True)
class Outcome:
    """One finished run."""

    method: str
    lr: float
    seed: int
    accuracy: float
    loss: float  # mean training loss of the last tenth
    mean_factor: float
    at_bound: float  # share of decisions with f at a bound
    loss_variance: float  # of the last half


def run(images: Images, setup: Setup, method: str, lr: float, seed: int, placebo: list[float]) -> Outcome:
    """Trains once. `placebo` is the pool of multipliers that the placebo draws from; `default` fills it."""
    torch.manual_seed(seed)
    model = small_cnn(images.x.shape[-1])
    scaled = lr * PLAIN.get(method, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=scaled, momentum=0.9, weight_decay=5e-4)
    scheduler = None
    if setup.schedule == "cosine":
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setup.steps)
    factors: list[float] = []
    dcao: Attachment | None = None
    groups: ParamGroups | None = None
    if method in POLICIES:
        settings = ProbeSettings(probe_batch=setup.probe_batch)
        dcao = attach(
            model, optimizer, cross_entropy, policy=POLICIES[method], probe=settings, run=f"compare-{seed}",
            probe_interval=setup.probe_interval, overhead=None, journal_dir="/dev/null/nowhere",
        )  # fmt: skip
    elif method == "placebo":
        groups = ParamGroups(optimizer)
    shuffled = random.Random(seed)  # noqa: S311  (an experiment, not a secret)
    losses = []
    for report in train(
        model, optimizer, batches(images, setup.batch, setup.steps, seed), dcao=dcao, scheduler=scheduler
    ):
        losses.append(report.loss)
        if dcao is not None and dcao.decision is not None and report.probed:
            factors.append(dcao.decision.multipliers.lr)
        if groups is not None and report.step % setup.probe_interval == 0 and placebo:
            factors.append(shuffled.choice(placebo))
            groups.factors = Multipliers(lr=factors[-1])
    if dcao is not None:
        dcao.finish()
    if method == "default":
        placebo.extend(factors)
    tail, half = losses[-max(len(losses) // 10, 1) :], losses[len(losses) // 2 :]
    return Outcome(
        method, lr, seed, accuracy(model, images.x_test, images.y_test), statistics.fmean(tail),
        statistics.fmean(factors) if factors else PLAIN.get(method, 1.0),
        sum(f in (0.5, 2.0) for f in factors) / max(len(factors), 1), statistics.pvariance(half),
    )  # fmt: skip


def compare(
    data: Annotated[Literal["digits", "fashion-mnist"], typer.Option()] = "fashion-mnist",
    lrs: Annotated[str, typer.Option(help="Base learning rates, comma-separated.")] = "0.02,0.1,0.4",
    seeds: Annotated[int, typer.Option(help="Seeds 0 … n−1.")] = 2,
    steps: int = 1000,
    batch: int = 128,
    probe_interval: int = 20,
    probe_batch: int = 64,
    schedule: Annotated[Literal["constant", "cosine"], typer.Option()] = "constant",
    only: Annotated[str | None, typer.Option(help="Methods, comma-separated by ';'.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON lines, one a run.")] = None,
) -> None:
    """Runs every method at every learning rate and seed, and prints a table of test accuracies."""
    torch.set_num_threads(1)
    images = load_digits() if data == "digits" else load_fashion_mnist()
    setup = Setup(data, schedule, steps, batch, probe_interval, probe_batch)
    methods = only.split(";") if only else [*PLAIN, *POLICIES, "placebo"]
    rates = [float(lr) for lr in lrs.split(",")]
    outcomes: list[Outcome] = []
    for lr in rates:
        placebo: list[float] = []
        for method in methods:
            for seed in range(seeds):
                outcome = run(images, setup, method, lr, seed, placebo)
                outcomes.append(outcome)
                if out is not None:
                    out.parent.mkdir(parents=True, exist_ok=True)
                    with out.open("a") as file:
                        file.write(json.dumps({**asdict(setup), **asdict(outcome)}, ensure_ascii=False) + "\n")
    typer.echo(table(outcomes, methods, rates))


def table(outcomes: list[Outcome], methods: list[str], rates: list[float]) -> str:
    """Markdown: mean accuracy ± half the range over seeds, and in brackets the mean factor on the learning rate."""
    lines = ["| method | " + " | ".join(f"η₀ = {lr:g}" for lr in rates) + " |", "|---" * (len(rates) + 1) + "|"]
    for method in methods:
        cells = []
        for lr in rates:
            mine = [o for o in outcomes if (o.method, o.lr) == (method, lr)]
            values = [o.accuracy for o in mine]
            factor = statistics.fmean(o.mean_factor for o in mine)
            cells.append(f"{statistics.fmean(values):.3f} ± {(max(values) - min(values)) / 2:.3f} (×{factor:.2f})")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(compare)
