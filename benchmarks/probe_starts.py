"""Where Lanczos should start: products until the answer is right, and until the solver says so, per kind of
start.

    python benchmarks/probe_starts.py --models resnet gpt --interval 20

Along a training, every kind of start solves the same operator (double backward); "right" is λ₁ within 1 % and γ
within 5 % of thirty products from another start, "stops" is where the solver's own rule stops. A stop before
"right" is a wrong answer: they are counted. "measured" adds the product that the batch sharpness costs when the
start is not the gradient.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from probe_workloads import TEXT, step, train, workloads
from torch import Tensor

from dcao_client.spectrum.lanczos import Solve, lanczos
from dcao_client.spectrum.ritz import Bounds, Ritz
from dcao_client.spectrum.starts import start_vector
from dcao_client.spectrum.stop import Stop
from dcao_client.spectrum.torch.double_backward import DoubleBackward
from dcao_client.spectrum.torch.isolation import isolated
from dcao_client.spectrum.torch.layout import Layout
from dcao_client.spectrum.torch.problem import Alone, Problem

NEVER = 99
MOST = 22


@dataclass(frozen=True)
class Recorder(Stop):
    """A stopping rule that never stops, and notes what the real one would have seen."""

    seen: list[tuple[float, float, bool]] = field(default_factory=list)

    def met(self, found: Ritz, error: Bounds) -> bool:
        second = float(found.values[1]) if len(found.values) > 1 else float("-inf")
        self.seen.append((float(found.values[0]), second, super().met(found, error)))
        return False


def solve(operator: DoubleBackward, start: Tensor, products: int) -> tuple[Solve, list[tuple[float, float, bool]]]:
    recorder = Recorder()
    generator = torch.Generator().manual_seed(0)
    found = lanczos(operator.product, start, max_matvecs=products, stop=recorder, generator=generator, want=3)
    return found, recorder.seen


def first(flags: list[bool]) -> int:
    return flags.index(True) + 1 if True in flags else NEVER


def along(name: str, arguments: argparse.Namespace) -> None:
    work = workloads(arguments.text)[name]
    model, optimizer, stream = train(work, arguments.steps)
    fixed, warm = next(stream), ()
    right, stops, wrong = defaultdict(list), defaultdict(list), defaultdict(int)
    for probe in range(arguments.probes):
        batch = fixed if arguments.batch == "fixed" else next(stream)
        with isolated(model) as aliases:
            layout = Layout(aliases)
            operator = DoubleBackward(Problem(model, work.loss, [batch], [1.0], aliases, layout, Alone(), 0), keep=True)
            kinds = ["random", "gradient", *(["warm", "combined"] if warm else [])]
            generator = torch.Generator().manual_seed(probe)
            other = start_vector("random", operator.gradient, (), generator, operator.space)
            reference, _ = solve(operator, other + operator.gradient / operator.space.norm(operator.gradient), 30)
            rho, second = (float(v) for v in reference.found.values[:2])
            for kind in kinds:
                start = start_vector(kind, operator.gradient, warm, generator, operator.space)
                _, seen = solve(operator, start, MOST)
                gap = rho - second
                good = [abs(a / rho - 1) <= 0.01 and abs(a - b - gap) <= 0.05 * gap for a, b, _ in seen]
                right[kind].append(first(good))
                stops[kind].append(first([s for *_, s in seen]))
                wrong[kind] += stops[kind][-1] != NEVER and not good[stops[kind][-1] - 1]
            warm = reference.vectors
            operator.close()
        for _ in range(arguments.interval):
            step(work, model, optimizer, next(stream))
    for kind in right:
        stop = statistics.median(stops[kind])
        print(
            f"{name:8} {arguments.batch:8} {kind:10} right after {statistics.median(right[kind]):4.1f}, stops after "
            f"{stop:4.1f}, measured after {stop + (kind != 'gradient'):4.1f} products in the median; "
            f"wrong {wrong[kind]}/{len(right[kind])}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet", "cnn", "gpt", "mlp"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--interval", type=int, default=20)
    parser.add_argument("--probes", type=int, default=8)
    parser.add_argument("--batch", choices=["current", "fixed"], default="current")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.models:
        along(name, arguments)


if __name__ == "__main__":
    main()
