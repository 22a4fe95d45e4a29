"""Panels, variables and annotations, as Grafana's dashboard JSON (schema 39, Grafana ≥ 10) has them."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
"""Whatever Prometheus the viewer chooses; `dashboard` declares the variable."""
SCHEMA_VERSION = 39
WIDTH = 24  # Grafana's grid
# Okabe and Ito's colours, as on the run page: they stay apart for every kind of colour vision.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#8A95A6"
EDGE_STEPS: list[Json] = [
    {"color": GREY, "value": None},
    {"color": GREEN, "value": 0.1},
    {"color": ORANGE, "value": 0.8},
    {"color": VERMILLION, "value": 1.2},
]


@dataclass(frozen=True)
class Query:
    """One PromQL expression and what its series are called."""

    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False


@dataclass(frozen=True)
class Style:
    """How a series is drawn, by its legend."""

    series: str
    colour: str
    dash: bool = False
    width: int = 2
    fill: int = 0


@dataclass
class Panel:
    """One panel; `at` is given by `rows`."""

    title: str
    queries: list[Query]
    kind: str = "timeseries"
    width: int = 12
    height: int = 8
    unit: str = "short"
    description: str = ""
    log: bool = False
    low: float | None = None
    high: float | None = None
    steps: list[Json] | None = None
    show_steps: str = "off"  # line | dashed | area | line+area
    styles: list[Style] = field(default_factory=list)
    decimals: int | None = None
    stacked: bool = False
    options: Json = field(default_factory=dict)
    transformations: list[Json] = field(default_factory=list)
    overrides: list[Json] = field(default_factory=list)
    mappings: list[Json] = field(default_factory=list)


def rows(sections: list[tuple[str, list[Panel]]]) -> list[Json]:
    """Places panels section after section, each under its heading and each in the first place where it fits."""
    placed: list[Json] = []
    top = 0
    for heading, panels in sections:
        placed.append(_row(heading, top, len(placed) + 1))
        top += 1
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            x, y = _first_fit(panel, top, taken)
            taken |= _cells(panel, x, y)
            placed.append(_panel(panel, {"x": x, "y": y, "w": panel.width, "h": panel.height}, len(placed) + 1))
        top = max(y for _, y in taken) + 1
    return placed


def _cells(panel: Panel, x: int, y: int) -> set[tuple[int, int]]:
    return {(i, j) for i in range(x, x + panel.width) for j in range(y, y + panel.height)}


def _first_fit(panel: Panel, top: int, taken: set[tuple[int, int]]) -> tuple[int, int]:
    """Row after row, from left to right."""
    y = top
    while True:
        for x in range(WIDTH - panel.width + 1):
            if not _cells(panel, x, y) & taken:
                return x, y
        y += 1


def _row(title: str, y: int, number: int) -> Json:
    grid = {"x": 0, "y": y, "w": WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": grid, "panels": []}


def _panel(panel: Panel, grid: Json, number: int) -> Json:
    defaults: Json = {"unit": panel.unit, "mappings": panel.mappings}
    if panel.steps is not None:
        defaults["thresholds"] = {"mode": "absolute", "steps": panel.steps}
    for name, value in (("min", panel.low), ("max", panel.high), ("decimals", panel.decimals)):
        if value is not None:
            defaults[name] = value
    if panel.kind == "timeseries":
        defaults["custom"] = _lines(panel)
        defaults["color"] = {"mode": "palette-classic"}
    elif panel.steps is not None:
        defaults["color"] = {"mode": "thresholds"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "gridPos": grid,
        "datasource": DATASOURCE,
        "targets": [_target(query, chr(ord("A") + i)) for i, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": defaults, "overrides": [*map(_override, panel.styles), *panel.overrides]},
        "options": panel.options or _options(panel),
        "transformations": panel.transformations,
    }


def _lines(panel: Panel) -> Json:
    scale: Json = {"type": "log", "log": 10} if panel.log else {"type": "linear"}
    return {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 2,
        "fillOpacity": 25 if panel.stacked else 0,
        "showPoints": "auto",
        "pointSize": 4,
        "spanNulls": False,
        "scaleDistribution": scale,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": panel.show_steps},
    }


def _options(panel: Panel) -> Json:
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "calcs": ["lastNotNull"], "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "none"},
        }
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "stat":
        return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "area", "textMode": "auto"}
    if panel.kind == "gauge":
        return {"reduceOptions": reduce, "showThresholdMarkers": True, "showThresholdLabels": False}
    if panel.kind == "bargauge":
        return {"reduceOptions": reduce, "displayMode": "basic", "orientation": "horizontal", "showUnfilled": True}
    return {}


def _target(query: Query, ref: str) -> Json:
    target: Json = {
        "refId": ref,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "editorMode": "code",
        "range": not query.instant,
        "instant": query.instant,
    }
    if query.table:
        target["format"] = "table"
    return target


def _override(style: Style) -> Json:
    properties: list[Json] = [
        {"id": "color", "value": {"mode": "fixed", "fixedColor": style.colour}},
        {"id": "custom.lineWidth", "value": style.width},
    ]
    if style.dash:
        properties.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}})
    if style.fill:
        properties.append({"id": "custom.fillOpacity", "value": style.fill})
    return {"matcher": {"id": "byRegexp", "options": style.series}, "properties": properties}


def variable(name: str, label: str, query: str, *, multi: bool) -> Json:
    """A variable whose values Prometheus knows; new runs appear when the time range is refreshed."""
    made: Json = {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery", "qryType": 1},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": multi,
        "current": {},
        "options": [],
    }
    if multi:
        made["allValue"] = ".+"
    return made


def data_source() -> Json:
    """Which Prometheus: the default one until somebody chooses another."""
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "current": {},
        "options": [],
    }


def annotation(name: str, expr: str, colour: str, title: str, text: str) -> Json:
    """Marks on every graph where a query has a value."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expr,
        "step": "10s",
        "titleFormat": title,
        "textFormat": text,
        "useValueForTime": False,
    }


def link(title: str, uid: str, *, keep_variables: bool = True) -> Json:
    """A link in the dashboard's head that keeps the time range."""
    return {
        "title": title,
        "type": "link",
        "icon": "dashboard",
        "url": f"/d/{uid}",
        "keepTime": True,
        "includeVars": keep_variables,
        "targetBlank": False,
        "asDropdown": False,
        "tags": [],
        "tooltip": "",
    }


def dashboard(
    uid: str,
    title: str,
    description: str,
    *,
    sections: list[tuple[str, list[Panel]]],
    variables: list[Json],
    annotations: list[Json],
    links: list[Json],
) -> Json:
    """The whole dashboard."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["dcao"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,  # one crosshair over all panels
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m"]},
        "timezone": "browser",
        "weekStart": "",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "links": links,
        "templating": {"list": [data_source(), *variables]},
        "annotations": {"list": annotations},
        "panels": rows(sections),
    }
