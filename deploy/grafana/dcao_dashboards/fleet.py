"""All live runs: which are near the edge, pinned, silent or costly."""

from dcao_dashboards.parts import (
    BLUE,
    EDGE_STEPS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Json,
    Panel,
    Query,
    Style,
    annotation,
    link,
    variable,
)
from dcao_dashboards.parts import dashboard as assemble

CHOSEN = '{project=~"$project"}'
REGIME_COLOURS = {
    "calibrating": SKY,
    "flat": GREY,
    "stable": GREEN,
    "edge": ORANGE,
    "unstable": VERMILLION,
    "diverged": "#5A1A00",
    "held": PURPLE,
    "pending": "#B7C0CE",
}


def by_run(metric: str) -> str:
    """One series for each run, however many scraped it."""
    return f"max by (project, run) ({metric}{CHOSEN})"


def count(title: str, expr: str, colour: str = BLUE) -> Panel:
    """A single number; from 1 on in its colour."""
    steps: list[Json] = [{"color": GREY, "value": None}, {"color": colour, "value": 1}]
    return Panel(title, [Query(expr)], kind="stat", width=4, height=4, unit="none", steps=steps)


TABLE_COLUMNS = {
    "Value #A": ("Edge ratio", "short"),
    "Value #B": ("Sharpness ρ", "short"),
    "Value #C": ("Learning rate η", "short"),
    "Value #D": ("Loss", "short"),
    "Value #E": ("Step", "none"),
    "Value #F": ("Probe share", "percentunit"),
    "Value #G": ("Silent for", "s"),
}


def _column(name: str, unit: str) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "unit", "value": unit}, {"id": "decimals", "value": 3 if unit == "short" else 1}],
    }


RUN_TABLE = Panel(
    "Live runs",
    [
        Query(expr, instant=True, table=True)
        for expr in (
            by_run("dcao_run_edge_ratio"),
            by_run("dcao_run_sharpness"),
            by_run("dcao_run_learning_rate"),
            by_run("dcao_run_loss"),
            by_run("dcao_run_step"),
            by_run("dcao_run_probe_overhead_ratio"),
            f"project_run:dcao_run_observation_age_seconds:min{CHOSEN}",
            f"max by (project, run, optimizer, policy, status) (dcao_run_info{CHOSEN})",
        )
    ],
    kind="table",
    width=24,
    height=11,
    transformations=[
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, "Value #H": True},
                "renameByName": {key: name for key, (name, _) in TABLE_COLUMNS.items()},
            },
        },
        {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "Edge ratio", "desc": True}]}},
    ],
    overrides=[
        *(_column(name, unit) for name, unit in TABLE_COLUMNS.values()),
        {
            "matcher": {"id": "byName", "options": "Edge ratio"},
            "properties": [
                {"id": "custom.cellOptions", "value": {"type": "gauge", "mode": "basic"}},
                {"id": "min", "value": 0},
                {"id": "max", "value": 1.6},
                {"id": "thresholds", "value": {"mode": "absolute", "steps": EDGE_STEPS}},
            ],
        },
        {
            "matcher": {"id": "byName", "options": "run"},
            "properties": [
                {
                    "id": "links",
                    "value": [
                        {
                            "title": "Open the run",
                            "url": "/d/dcao-run?var-project=${__data.fields.project}"
                            "&var-run=${__data.fields.run}&${__url_time_range}",
                        }
                    ],
                }
            ],
        },
    ],
)


def dashboard() -> Json:
    """The dashboard of all live runs."""
    regimes = [Style(f"^{name}$", colour, fill=40) for name, colour in REGIME_COLOURS.items()]
    return assemble(
        "dcao-fleet",
        "DCAO / Fleet",
        "Every live run: where it stands relative to the edge of stability.",
        sections=[
            (
                "Now",
                [
                    count("Live runs", "sum(max by (regime) (dcao_live_runs))"),
                    count("Beyond the edge", f"count({by_run('dcao_run_edge_ratio')} > 1.2) or vector(0)", VERMILLION),
                    count("Diverged", f"sum({by_run('dcao_run_diverged')})", VERMILLION),
                    count("Overdue", f"sum({by_run('dcao_run_stale')})", ORANGE),
                    count("Left out (too many)", "max(dcao_live_runs_dropped)", ORANGE),
                    count("Left out (unreadable)", "max(dcao_live_runs_unreadable)", ORANGE),
                    RUN_TABLE,
                ],
            ),
            (
                "Stability",
                [
                    Panel(
                        "Runs by regime",
                        [Query("max by (regime) (dcao_live_runs)", "{{regime}}")],
                        stacked=True,
                        low=0,
                        decimals=0,
                        styles=regimes,
                    ),
                    Panel(
                        "The ten runs nearest to the edge",
                        [Query(f"topk(10, project_run:dcao_run_edge_ratio:max{CHOSEN})", "{{project}}/{{run}}")],
                        low=0,
                        steps=[{"color": "transparent", "value": None}, {"color": VERMILLION, "value": 1}],
                        show_steps="dashed",
                    ),
                    Panel(
                        "Sharpness",
                        [Query(f"topk(10, {by_run('dcao_run_sharpness')})", "{{project}}/{{run}}")],
                        log=True,
                    ),
                    Panel(
                        "Learning-rate multiplier",
                        [Query(by_run("dcao_run_learning_rate_multiplier"), "{{project}}/{{run}}")],
                        log=True,
                    ),
                ],
            ),
            (
                "Cost and care",
                [
                    Panel(
                        "Share of the time spent in probes",
                        [Query(f"topk(10, {by_run('dcao_run_probe_overhead_ratio')})", "{{project}}/{{run}}")],
                        width=8,
                        unit="percentunit",
                        low=0,
                        steps=[{"color": "transparent", "value": None}, {"color": VERMILLION, "value": 0.05}],
                        show_steps="dashed",
                    ),
                    Panel(
                        "Decisions made offline, backfilled later",
                        [
                            Query(
                                "sum by (project, run) (max without (instance, job) (increase(dcao_run_decisions_total"
                                '{project=~"$project", outcome="backfilled"}[$__rate_interval])))',
                                "{{project}}/{{run}}",
                            )
                        ],
                        width=8,
                        low=0,
                    ),
                    Panel(
                        "Decisions in a row at a bound",
                        [Query(f"topk(10, {by_run('dcao_run_decisions_at_bound_in_a_row')})", "{{project}}/{{run}}")],
                        width=8,
                        low=0,
                    ),
                ],
            ),
        ],
        variables=[variable("project", "Project", "label_values(dcao_run_info, project)", multi=True)],
        annotations=[
            annotation(
                "Alerts",
                'ALERTS{alertstate="firing", project=~"$project", run=~".+"}',
                VERMILLION,
                "{{alertname}}",
                "{{project}}/{{run}}",
            )
        ],
        links=[
            link("Run", "dcao-run", keep_variables=False),
            link("Service", "dcao-service", keep_variables=False),
        ],
    )
