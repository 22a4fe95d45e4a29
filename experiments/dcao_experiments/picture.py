"""The demo's picture: a controlled run beside the same run without DCAO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from dcao_experiments.demo import Trace

# Okabe and Ito's palette: distinguishable with any colour vision.
WITH, WITHOUT, GAP, LIMIT = "#0072B2", "#999999", "#E69F00", "#D55E00"


def draw(controlled: Trace, plain: Trace, path: Path, *, title: str) -> None:
    """Draws loss, ρ and γ, edge ratio, η, β, λ of both runs into a PNG."""
    figure, axes = plt.subplots(2, 3, figsize=(14, 7), constrained_layout=True, sharex=True)
    steps = range(len(controlled.losses))
    probed = [probe[0] for probe in controlled.probes]

    loss = axes[0][0]
    loss.semilogy(_smooth(plain.losses), color=WITHOUT, label=f"without, accuracy {plain.accuracy:.3f}")
    loss.semilogy(_smooth(controlled.losses), color=WITH, label=f"with DCAO, accuracy {controlled.accuracy:.3f}")
    loss.set_title("training loss (moving average)")
    loss.legend()

    curvature = axes[0][1]
    curvature.semilogy(probed, [probe[1] for probe in controlled.probes], color=WITH, label="sharpness ρ")
    curvature.semilogy(probed, [max(probe[2], 1e-12) for probe in controlled.probes], color=GAP, label="gap γ")
    curvature.set_title("top of the Hessian's spectrum")
    curvature.legend()

    edge = axes[0][2]
    edge.plot(probed, [probe[3] for probe in controlled.probes], color=WITH)
    edge.axhline(1, color=LIMIT, linestyle="--", label="edge of stability")
    edge.set_title("edge ratio η·ρ / threshold")
    edge.legend()

    names = ("learning rate η", "momentum β", "weight decay λ")
    for i, (axis, name) in enumerate(zip(axes[1], names, strict=True)):
        axis.plot(steps, [values[i] for values in plain.applied], color=WITHOUT, label="without")
        axis.plot(steps, [values[i] for values in controlled.applied], color=WITH, label="with DCAO")
        axis.set_title(name)
        axis.set_xlabel("optimizer step")
    axes[1][0].legend()
    for axis in axes.flat:
        axis.grid(alpha=0.25)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _smooth(values: list[float], weight: float = 0.9) -> list[float]:
    smoothed: list[float] = []
    for value in values:
        smoothed.append(value if not smoothed else weight * smoothed[-1] + (1 - weight) * value)
    return smoothed
