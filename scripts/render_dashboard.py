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
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, MaxNLocator

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
        self.series: list[tuple[str, list[float], list[float]]] = []
        self.newest: list[tuple[str, dict[str, str], float]] = []  # query's letter, labels, value
        for target in panel["targets"]:
            for found in query(fill(target["expr"])):
                points = [(float(t), float(v)) for t, v in found["values"]]
                name = legend_of(target["legendFormat"], found["metric"])
                self.series.append((name, [t for t, _ in points], [v for _, v in points]))
                self.newest.append((target["refId"], found["metric"], points[-1][1]))

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
            self._table(axes)
        else:
            self._numbers(axes)

    def _numbers(self, axes: Axes) -> None:
        """The newest value of each series, in the colour of its threshold."""
        texts = [
            name if self.json["options"].get("textMode") == "name" else self._mapped(values[-1])
            for name, _, values in self.series[:3]
            if values
        ]
        newest = self.series[0][2][-1] if texts else 0.0
        reached = [step["color"] for step in self._steps() if step["value"] is None or step["value"] <= newest]
        self._text(axes, "\n".join(texts) or "–", 17 if len(texts) < 2 else 11, reached[-1] if reached else INK)

    def _steps(self) -> list[Json]:
        steps: list[Json] = self.defaults.get("thresholds", {}).get("steps", [])
        return steps

    def _mapped(self, value: float) -> str:
        for mapping in self.defaults.get("mappings", []):
            if f"{value:.0f}" in mapping["options"]:
                return str(mapping["options"][f"{value:.0f}"]["text"])
        return shown(value, self.unit)

    def _table(self, axes: Axes) -> None:
        """One line for each run: its labels, then the newest value of each query."""
        organize: Json = next((t["options"] for t in self.json["transformations"] if t["id"] == "organize"), {})
        names, hidden = organize.get("renameByName", {}), organize.get("excludeByName", {})
        columns: dict[str, None] = {"project": None, "run": None}
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for ref, metric, value in self.newest:
            row = rows.setdefault((metric["project"], metric["run"]), {})
            row.update({name: text for name, text in metric.items() if name != "__name__"})
            column = f"Value #{ref}"
            if not hidden.get(column) and not (len(self.json["targets"]) == 1 and hidden.get("Value")):
                row[names.get(column, column)] = shown(value, "short")
        for row in rows.values():
            columns.update(dict.fromkeys(row))
        axes.axis("off")
        for index, column in enumerate(columns):
            left = 0.01 + index * 0.98 / len(columns)
            lines = [column, *(row.get(column, "") for row in rows.values())]
            for line, text in enumerate(lines[:14]):
                height = 0.97 - (line + 0.5) / max(8, min(len(lines), 14))
                colour, size = (SOFT, 7.5) if line == 0 else (INK, 8.5)
                axes.text(left, height, text, fontsize=size, color=colour, va="center", transform=axes.transAxes)

    def _lines(self, axes: Axes, start: float) -> None:
        stacked = self.defaults["custom"]["stacking"]["mode"] == "normal"
        base: list[float] = []
        # Of many, those that are not 0 all the time; of those, the largest.
        moving = [series for series in self.series if any(series[2])] or self.series[:1]
        chosen = sorted(moving, key=lambda series: -max(series[2]))[:8] if len(moving) > 8 else moving
        for index, (name, times, values) in enumerate(chosen):
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
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, self.unit)))
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
    def _text(axes: Axes, text: str, size: float, colour: str) -> None:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.46, text, ha="center", va="center", fontsize=size, color=colour, transform=axes.transAxes)


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
