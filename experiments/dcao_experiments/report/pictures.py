"""Plots as SVG elements, without a network and without a display."""

from __future__ import annotations

import io
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from dcao_experiments.report.measures import GOALS, Measured

SHOWN = 8  # curves that an eye can tell apart: ours, and the best of the others
LONGEST = 4.0


def curves(methods: Mapping[str, Measured], records: Sequence[dict[str, Any]]) -> str:
    """The metric over steps, median over seeds, of ours and the best others at their best rates."""
    lower = next(iter(methods.values())).lower_is_better
    order = sorted(methods.values(), key=lambda m: m.mean if lower else -m.mean)
    shown = [m for m in order if m.method == "dcao"] + [m for m in order if m.method != "dcao"][: SHOWN - 1]
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    for m in shown:
        at: dict[int, list[float]] = defaultdict(list)
        for r in records:
            if r["method"] == m.method and r["rate"] == m.rate:
                for step, value, *_ in r["looks"]:
                    at[step].append(value)
        steps = sorted(at)
        axes.plot(
            steps, [statistics.median(at[s]) for s in steps], label=m.method, lw=2.2 if m.method == "dcao" else 1.2
        )
    axes.set_xlabel("step")
    axes.set_ylabel("held-out loss" if lower else "test accuracy")
    axes.legend(fontsize="small", frameon=False)
    return _svg(figure)


def profiles(found: Mapping[str, Mapping[str, Measured]]) -> str:
    """Share of workloads on which a method needs at most τ times the steps of the fastest one, over τ."""
    everywhere = sorted(set.intersection(*(set(m) for m in found.values()))) if found else []
    goal = GOALS[-1]
    ratios: dict[str, list[float]] = defaultdict(list)
    for methods in found.values():
        fastest = min((methods[n].steps[goal] for n in everywhere), default=math.inf)
        for name in everywhere:
            time = methods[name].steps[goal]
            ratios[name].append(time / fastest if math.isfinite(time) else math.inf)
    order = sorted(everywhere, key=lambda n: sum(min(r, LONGEST + 1) for r in ratios[n]))[:SHOWN]
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    taus = [1 + (LONGEST - 1) * i / 200 for i in range(201)]
    for name in order:
        shares = [sum(r <= tau for r in ratios[name]) / len(ratios[name]) for tau in taus]
        axes.plot(taus, shares, label=name, lw=2.2 if name == "dcao" else 1.2, drawstyle="steps-post")
    axes.set_xlabel("steps over those of the fastest, τ")
    axes.set_ylabel("share of workloads")
    axes.set_ylim(-0.02, 1.02)
    if order:
        axes.legend(fontsize="small", frameon=False)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    figure.tight_layout()
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return out.getvalue()[out.getvalue().index("<svg") :]
