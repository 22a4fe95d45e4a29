"""How far differences of gradients put λ₁ and γ off, and whether the bounds say so.

    python benchmarks/probe_differences.py --models resnet gpt --seeds 2

At several points of short trainings, against double backward to 1e-6, on the same batch. "in turns" is the probe:
steps forwards and backwards in turns; "forwards" takes every step forwards. Then the polish by central steps of several
lengths (factors on the one-sided step), as the probe does where the products are noisier than the tolerances. Errors
are fractions of λ₁; "asym" is the asymmetry of the projected matrix, of which the bounds are twice.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from probe_workloads import TEXT, train, workloads
from torch import Tensor

from dcao_client.spectrum import Probe, ProbeSettings, solve
from dcao_client.spectrum.lanczos import Solve
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.polish import polish
from dcao_client.spectrum.result import Spectrum
from dcao_client.spectrum.torch.finite_difference import FiniteDifference

STEPS = (20, 40, 100, 200, 300)
FACTORS = (0.25, 0.5, 1.0, 3.0)
EXACT = ProbeSettings(
    max_matvecs=60, rho_tol=1e-6, gamma_tol=1e-3, gamma_floor=0.0, matvec="double_backward", preconditioned=False
)
SETTINGS = ProbeSettings(matvec="finite_difference", preconditioned=False)
Errors = dict[str, list[tuple[float, float, bool]]]


def forwards(operator: FiniteDifference) -> Callable[[Tensor], Tensor]:
    """The product with every step forwards."""

    def product(vector: Tensor) -> Tensor:
        operator.side = 1.0
        return FiniteDifference.product(operator, vector)

    return product


def solved(operator: Curvature, *, turns: bool) -> Solve:
    """The solve before any polish."""
    assert isinstance(operator, FiniteDifference)
    if not turns:
        operator.product = forwards(operator)  # type: ignore[method-assign]
    was, solve._too_noisy = solve._too_noisy, lambda *_: False
    try:
        return solve.top(operator, None, (), SETTINGS, seed=0).solve
    finally:
        solve._too_noisy = was


def polished(operator: Curvature, rough: Solve, factor: float) -> Solve:
    """The same after two central products with steps of this factor."""
    assert isinstance(operator, FiniteDifference)
    operator.central, operator.step = True, operator.step * factor
    return polish(operator.product, rough, operator.floor, operator.space)


def compared(found: Solve, exact: Spectrum) -> tuple[float, float, bool]:
    """Errors of λ₁ and γ over λ₁, and whether both bounds hold."""
    assert found.found is not None
    assert found.error is not None
    assert exact.rho is not None
    assert exact.gamma is not None
    first, second = (float(v) for v in found.found.values[:2])
    rho, gamma = abs(first - exact.rho), abs(first - second - exact.gamma)
    return rho / exact.rho, gamma / exact.rho, rho <= found.error.rho and gamma <= found.error.gamma


def measured(name: str, seed: int, text: Path, errors: Errors) -> None:
    work = workloads(text)[name]
    for steps in STEPS:
        model, _, stream = train(work, steps, seed)
        batch = next(stream)
        exact = Probe(model, work.loss, settings=EXACT).measure(batch)
        probe = Probe(model, work.loss, settings=SETTINGS)
        attached = Probe(model, work.loss, settings=ProbeSettings(preconditioned=False))
        attached.measure(batch)
        probe.choice = attached.choice
        rows = {"forwards": probe.analyse(batch, lambda o: solved(o, turns=False))}
        rows["in turns"] = rough = probe.analyse(batch, lambda o: solved(o, turns=True))
        for factor in FACTORS:
            rows[f"polished, {factor:g}"] = probe.analyse(batch, lambda o, r=rough, f=factor: polished(o, r, f))
        print(f"{name} seed {seed} step {steps}: asym {rough.asymmetry / (exact.rho or 1.0):.1e}", end="")
        for label, found in rows.items():
            rho, gamma, holds = compared(found, exact)
            errors[label].append((rho, gamma, holds))
            print(f"; {label} λ₁ {rho:.1e} γ {gamma:.1e}{'' if holds else ' BEYOND'}", end="")
        print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet", "cnn", "gpt", "mlp"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.models:
        errors: Errors = defaultdict(list)
        for seed in range(1, 1 + arguments.seeds):
            measured(name, seed, arguments.text, errors)
        for label, rows in errors.items():
            first, second = ([row[i] for row in rows] for i in (0, 1))
            print(
                f"# {name} {label:14} λ₁ median {statistics.median(first):.1e} worst {max(first):.1e}; "
                f"γ {statistics.median(second):.1e}, {max(second):.1e}; "
                f"within the bounds {sum(row[2] for row in rows)} of {len(rows)}"
            )


if __name__ == "__main__":
    main()
