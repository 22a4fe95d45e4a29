"""What the dashboards and rules ask of Prometheus, as lists that tests walk."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
# What Grafana puts in: every value of the variables, and times that suit a scrape interval of a second.
FILLED = {
    "$__rate_interval": "10s",
    "$__range": "5m",
    "$project": ".+",
    "$run": ".+",
    "$instance": ".+",
}


@dataclass(frozen=True)
class Asked:
    """One expression and where it stands."""

    where: str
    expr: str

    def filled(self) -> str:
        """The expression as Grafana would send it."""
        expr = self.expr
        for variable, value in FILLED.items():
            expr = expr.replace(variable, value)
        return expr


def dashboard(path: Path) -> dict[str, Any]:
    """A committed dashboard."""
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def panel_queries() -> list[Asked]:
    """Every query of every panel."""
    return [
        Asked(f"{path.stem}: {panel['title']} {target['refId']}", target["expr"])
        for path in DASHBOARDS
        for panel in dashboard(path)["panels"]
        for target in panel.get("targets", [])
    ]


def annotation_queries() -> list[Asked]:
    """Every query of every annotation."""
    return [
        Asked(f"{path.stem}: {annotation['name']}", annotation["expr"])
        for path in DASHBOARDS
        for annotation in dashboard(path)["annotations"]["list"]
    ]


def rules() -> list[dict[str, Any]]:
    """Every rule of every group of every file."""
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def metrics_in(expr: str) -> set[str]:
    """Metric names in an expression: those of this project, recorded ones, and what every process exports."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    return set(re.findall(r"(?<![\w:])(?:[a-z_]+:)?(?:dcao|process|python)_[a-z_0-9]+(?::[a-z0-9_]+)?", bare))
