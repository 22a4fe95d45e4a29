"""Draws a Grafana dashboard's panels with matplotlib, from what a real Prometheus answers to their queries.

No Grafana is needed, so the picture can be made where none runs. Places, titles, colours, dashes, logarithmic scales
and thresholds are the dashboard's own.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import LogFormatterSciNotation, MaxNLocator

Json = dict[str, Any]
Query = Callable[[str], list[Json]]

INK, SOFT, LINE, CARD, PAGE = "#131a26", "#667085", "#e1e5eb", "#ffffff", "#f5f6f8"
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8A95A6", "#7A5195")
ROW, COLUMN, MARGIN, GAP = 0.38, 0.64, 0.3, 0.09  # inches: grid row, grid column, around the picture, between cards
TITLE, LEGEND, TICKS, LABELS = 0.34, 0.24, 0.2, 0.55  # inches inside a card: above, below and left of the plot


def legend_of(template: str, metric: dict[str, str]) -> str:
    """A series' name as Grafana would fill it in."""
    if template == "__auto":
        return ", ".join(f"{name}={value}" for name, value in sorted(metric.items()) if name != "__name__")
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: metric.get(match[1], ""), template)


def shown(value: float, unit: str) -> str:
    """A number with its unit, in a few characters."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "bool_yes_no":
        return "yes" if value else "no"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    if unit == "none" or (value == int(value) and abs(value) < 1e6):
        return f"{value:,.0f}"
    return f"{value:.3g}" + (" s" if unit == "s" else "")


class Panel:
    """One panel and the series that answer its queries: [(legend, times, values)]."""

    def __init__(self, panel: Json, query: Query, fill: Callable[[str], str]) -> None:
        self.json = panel
        self.defaults = panel["fieldConfig"]["defaults"]
        self.unit = self.defaults.get("unit", "short")
        self.series = []
        for target in panel["targets"]:
            for found in query(fill(target["expr"])):
                points = [(float(t), float(v)) for t, v in found["values"]]
                name = legend_of(target["legendFormat"], found["metric"])
                self.series.append((name, [t for t, _ in points], [v for _, v in points]))

    def style(self, name: str, index: int) -> Json:
        """Colour, width and dash of a series by the panel's overrides."""
        style = {"color": PALETTE[index % len(PALETTE)], "linewidth": 1.4, "linestyle": "-"}
        for override in self.json["fieldConfig"]["overrides"]:
            if override["matcher"]["id"] != "byRegexp" or not re.search(override["matcher"]["options"], name):
                continue
            for entry in override["properties"]:
                if entry["id"] == "color":
                    style["color"] = entry["value"]["fixedColor"]
                elif entry["id"] == "custom.lineStyle":
                    style["linestyle"] = "--"
        return style

    def draw(self, axes: Axes, start: float) -> None:
        """The panel into a frame of its own."""
        axes.set_facecolor(CARD)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(labelsize=7, colors=SOFT, length=0)
        kind = self.json["type"]
        if kind == "timeseries":
            self._lines(axes, start)
        elif kind == "bargauge":
            self._bars(axes)
        elif kind == "table":
            self._text(axes, "\n".join(name for name, _, _ in self.series[:8]), 7.5)
        else:
            newest = [shown(values[-1], self.unit) for _, _, values in self.series[:3] if values]
            self._text(axes, "\n".join(newest) or "–", 17 if len(newest) < 2 else 11)

    def _lines(self, axes: Axes, start: float) -> None:
        stacked = self.defaults["custom"]["stacking"]["mode"] == "normal"
        base: list[float] = []
        for index, (name, times, values) in enumerate(self.series[:10]):
            minutes = [(t - start) / 60 for t in times]
            style = self.style(name, index)
            if stacked:
                base = base if len(base) == len(values) else [0.0] * len(values)
                top = [b + v for b, v in zip(base, values, strict=True)]
                axes.fill_between(minutes, base, top, color=style["color"], alpha=0.55, linewidth=0, label=name)
                base = top
            else:
                axes.plot(minutes, values, label=name, **style)
        if self.defaults["custom"]["scaleDistribution"]["type"] == "log":
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1.2, 0.4)))
            axes.tick_params(which="minor", labelsize=6, colors=SOFT, length=0)
        else:
            axes.yaxis.set_major_locator(MaxNLocator(5))
        self._limits(axes)
        if self.defaults["custom"]["thresholdsStyle"]["mode"] != "off":
            self._thresholds(axes)
        axes.grid(color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        if self.series:
            axes.legend(
                fontsize=6.3, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.09), ncols=4, labelcolor=SOFT
            )

    def _limits(self, axes: Axes) -> None:
        finite = [v for _, _, values in self.series for v in values if math.isfinite(v)]
        if not finite:
            return
        low, high = self.defaults.get("min"), self.defaults.get("max")
        if low is not None:
            axes.set_ylim(bottom=low)
        if high is not None:
            axes.set_ylim(top=max(high, max(finite) * 1.05))

    def _thresholds(self, axes: Axes) -> None:
        for step in self.defaults["thresholds"]["steps"]:
            if step["value"] is None:
                continue
            bottom, top = axes.get_ylim()
            axes.axhline(step["value"], color=step["color"], linewidth=1, linestyle="--")
            if "area" in self.defaults["custom"]["thresholdsStyle"]["mode"]:
                axes.axhspan(step["value"], max(top, step["value"]), color=step["color"], alpha=0.08, linewidth=0)
            axes.set_ylim(bottom, max(top, step["value"] * 1.15))

    def _bars(self, axes: Axes) -> None:
        bars = sorted(((values[-1], name) for name, _, values in self.series if values))[-9:]
        axes.barh(range(len(bars)), [value for value, _ in bars], color=PALETTE[4], height=0.72)
        axes.set_yticks([])
        for place, (value, name) in enumerate(bars):
            axes.text(0, place, f" {name}  {value:.0f}", va="center", fontsize=7, color=INK)
        axes.grid(axis="x", color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)

    @staticmethod
    def _text(axes: Axes, text: str, size: float) -> None:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.46, text, ha="center", va="center", fontsize=size, color=INK, transform=axes.transAxes)


def render(dashboard: Path, query: Query, fill: Callable[[str], str], start: float, out: Path) -> list[str]:
    """Writes the picture; the titles of panels without data.

    Args:
        dashboard: its JSON file.
        query: the series of an expression over the time of the picture, as Prometheus answers them.
        fill: puts values in the place of Grafana's variables.
        start: seconds since the epoch that the time axes count from.
        out: PNG file.
    """
    loaded = json.loads(dashboard.read_text())
    tallest = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in loaded["panels"])
    width, height = 24 * COLUMN + 2 * MARGIN, tallest * ROW + 2 * MARGIN + 0.3
    figure = plt.figure(figsize=(width, height), facecolor=PAGE)
    page = Page(figure, width, height)
    page.text(MARGIN, height - MARGIN, loaded["title"], size=13, weight="bold")
    empty = []
    for panel in loaded["panels"]:
        if panel["type"] == "row":
            page.text(*page.corner(panel["gridPos"], up=0.3), panel["title"], size=10, colour=SOFT)
            continue
        drawn = Panel(panel, query, fill)
        if not drawn.series:
            empty.append(panel["title"])
        drawn.draw(
            page.card(panel["gridPos"], panel["title"], plotted=panel["type"] in ("timeseries", "bargauge")), start
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100, facecolor=PAGE)
    plt.close(figure)
    return empty


class Page:
    """A figure measured in inches from its lower left corner."""

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        self.figure, self.width, self.height = figure, width, height

    def corner(self, place: Json, up: float) -> tuple[float, float]:
        """The lower left corner of a grid place that is so many rows high, and as much room below as asked."""
        top = self.height - MARGIN - 0.3 - place["y"] * ROW
        return MARGIN + place["x"] * COLUMN, top - place["h"] * ROW + up * ROW

    def text(self, x: float, y: float, text: str, *, size: float, weight: str = "normal", colour: str = INK) -> None:
        """A line of text."""
        self.figure.text(x / self.width, y / self.height, text, fontsize=size, fontweight=weight, color=colour)

    def card(self, place: Json, title: str, *, plotted: bool) -> Axes:
        """A card with its title; the axes inside."""
        left, bottom = self.corner(place, up=0)
        wide, high = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        self.figure.patches.append(
            FancyBboxPatch(
                (left / self.width, bottom / self.height),
                wide / self.width,
                high / self.height,
                boxstyle="square,pad=0",
                facecolor=CARD,
                edgecolor=LINE,
                linewidth=0.8,
                zorder=-1,
                transform=self.figure.transFigure,
            )
        )
        self.text(left + 0.12, bottom + high - 0.22, title, size=8.5, weight="bold")
        labels, below = (LABELS, LEGEND + TICKS) if plotted else (0.1, 0.1)
        box = (left + labels, bottom + below, wide - labels - 0.15, high - below - TITLE)
        return self.figure.add_axes(
            (box[0] / self.width, box[1] / self.height, box[2] / self.width, box[3] / self.height)
        )
