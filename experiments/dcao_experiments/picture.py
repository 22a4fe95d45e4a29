"""The demo's picture: a training without a learning rate beside a tuned one, wrong ones, and one that was spoilt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from dcao_experiments.contest import SPIKE, SPIKE_FROM, SPIKE_TO, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: distinguishable with any colour vision.
OURS, TUNED, HIGH, LOW, SECOND, WITHOUT = "#0072B2", "#333333", "#D55E00", "#E69F00", "#009E73", "#999999"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.8,
}
NAMES = {"digits": "scikit-learn's digits", "fashion-mnist": "Fashion-MNIST"}
GAP = 0.062  # between two labels, as a share of the axis
ROOM = 1.42  # of the axis, where labels at the ends of lines take the rest


def draw(traces: dict[str, Trace], path: Path, *, data: str) -> None:
    """Draws accuracies, the spike, the rate under its ceiling and the sharpness into a PNG."""
    ours = traces["DCAO(model, loss)"]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(11, 7.6), constrained_layout=True)
        grid = figure.add_gridspec(2, 6, height_ratios=[1.15, 1])
        _contest(figure.add_subplot(grid[0, :3]), traces)
        _spike(figure.add_subplot(grid[0, 3:]), traces)
        _auto(figure.add_subplot(grid[1, :2]), traces)
        _rate(figure.add_subplot(grid[1, 2:4]), ours)
        _sharpness(figure.add_subplot(grid[1, 4:]), ours)
        figure.suptitle(
            f"Test accuracy of a small vision transformer on {NAMES[data]}, the same batches for all; "
            f"DCAO's probes took {ours.overhead:.1%} of its time",
            fontsize=11,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _contest(axis: Axes, traces: dict[str, Trace]) -> None:
    _accuracies(
        axis,
        [
            (traces["DCAO(model, loss)"], "DCAO, no rate", OURS),
            (traces["tuned"], "tuned", TUNED),
            (traces["tuned × 8"], "tuned × 8", HIGH),
            (traces["tuned ÷ 8"], "tuned ÷ 8", LOW),
        ],
    )
    axis.set_title("No rate set, beside AdamW + cosine")
    axis.set_xlabel("optimizer step")


def _spike(axis: Axes, traces: dict[str, Trace]) -> None:
    plain, guarded = traces["spike"], traces["spike, guard"]
    axis.axvspan(SPIKE_FROM * plain.steps, SPIKE_TO * plain.steps, color=HIGH, alpha=0.15, linewidth=0)
    _accuracies(
        axis, [(guarded, 'trust="guard"', OURS), (plain, "plain", TUNED), (traces["tuned"], "unspoilt", WITHOUT)]
    )
    axis.set_title(f"The tuned schedule × {SPIKE:g} for {(SPIKE_TO - SPIKE_FROM) * plain.steps:.0f} steps")
    axis.set_xlabel("optimizer step")


def _auto(axis: Axes, traces: dict[str, Trace]) -> None:
    _accuracies(
        axis,
        [
            (traces["tuned, auto"], "tuned", TUNED),
            (traces["tuned × 8, auto"], "× 8", HIGH),
            (traces["tuned ÷ 8, auto"], "÷ 8", LOW),
        ],
        room=1.5,
        nested=1.6,  # they end alike: a wider one below shows that it is there
    )
    axis.set_title('The same AdamW, trust="auto"')
    axis.set_xlabel("optimizer step")


def _rate(axis: Axes, ours: Trace) -> None:
    axis.semilogy(ours.rates, color=OURS)
    held = [(step, ceiling) for step, _, ceiling in ours.probes if ceiling is not None]
    if held:
        steps, ceilings = zip(*[*held, (len(ours.rates) - 1, held[-1][1])], strict=True)
        axis.step(steps, ceilings, where="post", color=HIGH, linestyle="--", linewidth=1.4)
    _below(axis, (("rate", OURS), ("its ceiling", HIGH)))
    axis.set_title("The rate that DCAO found")
    axis.set_xlabel("optimizer step")


def _sharpness(axis: Axes, ours: Trace) -> None:
    steps, rhos = zip(*[(step, rho) for step, rho, _ in ours.probes if rho > 0], strict=True)
    axis.semilogy(steps, rhos, color=SECOND, marker="o", markersize=3)
    axis.set_title(f"The sharpness, {len(ours.probes)} probes")
    axis.set_xlabel("optimizer step")


def _accuracies(
    axis: Axes, lines: Sequence[tuple[Trace, str, str]], *, room: float = ROOM, nested: float = 0.0
) -> None:
    """Lines with their names and last values at their ends, moved apart where they would overlap."""
    for i, (trace, _, colour) in reversed(list(enumerate(lines))):  # the first on top
        axis.plot(*zip(*trace.looks, strict=True), color=colour, linewidth=1.8 + nested * i)
    best = max(trace.accuracy for trace, _, _ in lines)
    low = max(0.0, min(min(trace.accuracy for trace, _, _ in lines) - 0.1, best - 0.35))
    axis.set_ylim(low, best + 0.04)
    steps = lines[0][0].steps
    axis.set_xlim(0, steps * room)
    axis.set_xticks([tick for tick in axis.get_xticks() if tick <= steps])
    gap = GAP * (best + 0.04 - low)
    below = float("inf")
    for trace, name, colour in sorted(lines, key=lambda line: -line[0].accuracy):
        at = min(max(trace.accuracy, low), below - gap)
        below = at
        axis.text(steps * 1.02, at, f"{trace.accuracy:.3f} {name}", color=colour, va="center", fontsize=10)


def _below(axis: Axes, names: Sequence[tuple[str, str]]) -> None:
    for i, (name, colour) in enumerate(names):
        axis.text(0.97, 0.05 + 0.1 * i, name, color=colour, transform=axis.transAxes, ha="right")
