"""How far λ₁ from three products is from λ₁, and what it costs, along trainings.

    python benchmarks/probe_cheap.py                              # the mode as it is
    python benchmarks/probe_cheap.py --seconds 0 0.5 --mixes 0 0.3 --matvecs 2 3   # other choices

A probe every 25 steps, on the current batch, another one each time; each setting follows its own vector. The reference
is a solve by double backward to 1e-3 on the same batch. Times are CPU seconds over those of gradients of the batch.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import torch
from probe_meter import in_gradients, plain_gradient
from probe_workloads import TEXT, Batch, Workload, step, workloads
from torch import nn

from dcao_client.spectrum import Probe, ProbeSettings
from dcao_client.spectrum import sharpness as cheap

EXACT = ProbeSettings(
    max_matvecs=60, rho_tol=1e-3, gamma_tol=0.99, gamma_floor=0.99, matvec="double_backward", graph="keep"
)


@dataclass
class Followed:
    """One setting of the cheap mode, with the vector it follows and what came of it."""

    probe: Probe
    second: float
    mix: float
    matvecs: int
    errors: list[float] = field(default_factory=list)
    bounded: int = 0
    products: list[int] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)

    def measure(self, work: Workload, model: nn.Module, batch: Batch, exact: float, *, timed: bool) -> None:
        cheap.SECOND, cheap.MIX = self.second, self.mix
        call = functools.partial(self.probe.sharpness, batch, matvecs=self.matvecs)
        if timed:
            found, cost = in_gradients(call, functools.partial(plain_gradient, model, work.loss, batch))
            self.gradients.append(cost)
        else:
            found = call()
        assert found.rho is not None, found.detail
        assert found.rho_bound is not None
        self.errors.append(found.rho / exact - 1)
        self.bounded += abs(found.rho - exact) <= found.rho_bound
        self.products.append(found.matvecs)

    def show(self, name: str) -> None:
        first, rest = abs(self.errors[0]), sorted(abs(e) for e in self.errors[1:])
        tenth = rest[int(0.9 * len(rest))]
        cost = f"{statistics.median(self.gradients[1:]):.1f} gradients, " if self.gradients else ""
        print(
            f"{name:14} v₂ {self.second:<3g} g {self.mix:<3g} {self.matvecs} products: "
            f"first {first:.1%} ({self.products[0]} products); then median {statistics.median(rest):.2%}, "
            f"nine of ten within {tenth:.1%}, worst {rest[-1]:.1%}, "
            f"{statistics.mean(self.products[1:]):.2f} products, {cost}"
            f"bound holds {self.bounded} of {len(self.errors)}",
            flush=True,
        )


def along(work: Workload, arguments: argparse.Namespace, seed: int, preconditioned: bool) -> list[Followed]:
    """One training with a probe of each setting every so many steps."""
    torch.manual_seed(seed)
    model = work.build()
    optimizer, stream = work.optimizer(model), work.batches(seed)
    settings = ProbeSettings(preconditioned=preconditioned)
    every = [
        Followed(Probe(model, work.loss, optimizer=optimizer, settings=settings), *chosen)
        for chosen in product(arguments.seconds, arguments.mixes, arguments.matvecs)
    ]
    for index in range(1, arguments.steps + 1):
        step(work, model, optimizer, next(stream))
        if index % arguments.interval:
            continue
        batch = tuple(t[: arguments.examples] for t in next(stream))
        reference = Probe(model, work.loss, optimizer=optimizer, settings=EXACT).measure(batch)
        if not preconditioned:
            reference = Probe(model, work.loss, settings=EXACT).measure(batch)
        assert reference.rho is not None
        for one in every:
            one.measure(work, model, batch, reference.rho, timed=arguments.timed)
    return every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mlp", "cnn", "gpt", "resnet"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[cheap.SECOND])
    parser.add_argument("--mixes", nargs="+", type=float, default=[cheap.MIX])
    parser.add_argument("--matvecs", nargs="+", type=int, default=[3])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--interval", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--examples", type=int, default=10**9, help="examples of each batch that are measured")
    parser.add_argument("--no-times", dest="timed", action="store_false")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name, seed in product(arguments.models, range(arguments.seeds)):
        for preconditioned in (False, True) if name == "gpt" else (False,):
            for one in along(workloads(arguments.text)[name], arguments, seed, preconditioned):
                one.show(name + (" P^-½HP^-½" if preconditioned else ""))


if __name__ == "__main__":
    main()
