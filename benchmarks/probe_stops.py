"""How often a solve stops at a wrong γ, and after how many products, by how small λ₂'s residual has to be.

    python benchmarks/probe_stops.py --models cnn mlp

Along several trainings each, every solve goes on for twenty products (double backward); then each rule is asked where
it would have stopped. Wrong is λ₁ off by more than 1 % or γ by more than 5 %, and by more than the bound says.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from probe_workloads import TEXT, Workload, step, workloads

from dcao_client.spectrum import Probe, ProbeSettings
from dcao_client.spectrum.lanczos import lanczos
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.result import Spectrum
from dcao_client.spectrum.ritz import Bounds, Ritz
from dcao_client.spectrum.stop import DOZEN, Stop
from dcao_client.spectrum.torch.double_backward import DoubleBackward

AT = (10, 30, 60, 100, 150, 220, 300)
# Parts of γ's tolerance that λ₂'s residual may have before twelve products, and from then on.
PARTS = ((0.3, 0.3), (0.3, 1.0), (0.4, 1.0), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0))
EXACT = ProbeSettings(
    max_matvecs=60, rho_tol=1e-4, gamma_tol=1e-2, gamma_floor=0.0, matvec="double_backward", preconditioned=False
)
SETTINGS = ProbeSettings(matvec="double_backward", preconditioned=False)
Seen = list[tuple[Ritz, Bounds]]


@dataclass(frozen=True)
class Recorder(Stop):
    """Never stops, and notes what a rule would have seen."""

    seen: Seen = field(default_factory=list)

    def met(self, found: Ritz, error: Bounds) -> bool:
        self.seen.append((found, error))
        return False


def recorded(operator: Curvature) -> Seen:
    """Ritz pairs and bounds after each of twenty products, from the gradient."""
    assert isinstance(operator, DoubleBackward)
    stop = Recorder(floor=operator.floor)
    generator = torch.Generator().manual_seed(0)
    lanczos(operator.product, operator.gradient, max_matvecs=20, stop=stop, generator=generator)
    return stop.seen


def solves(work: Workload, seeds: int, modes: list[bool]) -> Iterator[tuple[Spectrum, Seen]]:
    """The exact answer and the recorded solve, at each of the steps, on the batch that follows."""
    for seed in range(11, 11 + seeds):
        torch.manual_seed(seed)
        model = work.build()
        optimizer, stream, done = work.optimizer(model), work.batches(seed), 0
        for steps in AT:
            for _ in range(steps - done):
                step(work, model, optimizer, next(stream))
            done, batch = steps, next(stream)
            for mode in modes:
                model.train(mode)
                exact = Probe(model, work.loss, settings=EXACT).measure(batch)
                yield exact, Probe(model, work.loss, settings=SETTINGS).analyse(batch, recorded)
            model.train()


def stopped(seen: Seen, parts: tuple[float, float]) -> tuple[int, Ritz, Bounds]:
    """Products, pairs and bounds where the rule stops."""
    rule = Stop()
    within = (
        index
        for index, (found, error) in enumerate(seen)
        if rule.within(found, error) and found.residuals[1] <= parts[index + 1 >= DOZEN] * rule.allowed(found)
    )
    last = next(within, len(seen) - 1)
    return last + 1, *seen[last]


def wrong(found: Ritz, error: Bounds, exact: Spectrum) -> bool:
    first, gap = float(found.values[0]), float(found.values[0] - found.values[1])
    assert exact.rho is not None
    assert exact.gamma is not None
    off, apart = abs(first - exact.rho), abs(gap - exact.gamma)
    reached = off <= 0.01 * exact.rho and apart <= 0.05 * exact.gamma
    return not (reached or (off <= error.rho and apart <= error.gamma))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet", "cnn", "gpt", "mlp"])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.models:
        # Batch norm makes train and eval two functions.
        modes = [True, False] if name == "resnet" else [True]
        every = list(solves(workloads(arguments.text)[name], arguments.seeds, modes))
        for parts in PARTS:
            ends = [(stopped(seen, parts), exact) for exact, seen in every]
            products = [end[0] for end, _ in ends]
            mistakes = sum(wrong(end[1], end[2], exact) for end, exact in ends)
            print(
                f"{name:8} residual ≤ {parts[0]}, then {parts[1]} of γ's tolerance: "
                f"{statistics.mean(products):5.2f} products (median {statistics.median(products):g}), "
                f"wrong {mistakes} of {len(ends)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
