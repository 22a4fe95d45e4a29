"""One run (or a few beside each other): how near the edge it is, what was decided, why, and what that cost."""

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

RUNS = '{project=~"$project", run=~"$run"}'


def of(metric: str, extra: str = "") -> str:
    """The metric for the chosen runs, one series for each however many scraped it."""
    return f"max by (project, run) ({metric}{RUNS[:-1]}{extra}}})"


def line(metric: str, words: str = "", **options: bool) -> Query:
    """A line for each run."""
    return Query(of(metric), f"{{{{run}}}} {words}".strip(), **options)


def value(title: str, metric: str, unit: str = "short", **options: object) -> Panel:
    """A single number with its recent course behind it."""
    panel = Panel(title, [Query(of(metric), "{{run}}")], kind="stat", width=3, height=4, unit=unit)
    for name, option in options.items():
        setattr(panel, name, option)
    return panel


NOW = [
    Panel(
        "Edge ratio",
        [Query(of("dcao_run_edge_ratio"), "{{run}}")],
        kind="gauge",
        width=6,
        height=8,
        low=0,
        high=1.6,
        decimals=2,
        steps=EDGE_STEPS,
        description="η·ρ / threshold. 1 is the edge of stability; within 20 % of it full-batch training hovers.",
    ),
    value("Sharpness ρ", "dcao_run_sharpness"),
    value("Spectral gap γ", "dcao_run_spectral_gap"),
    value("Loss", "dcao_run_loss"),
    value("Learning rate η", "dcao_run_learning_rate"),
    value("Momentum β", "dcao_run_momentum"),
    value("Weight decay λ", "dcao_run_weight_decay"),
    value("Step", "dcao_run_step", unit="none"),
    value("Probe overhead", "dcao_run_probe_overhead_ratio", unit="percentunit"),
    Panel(
        "Last observation",
        [Query('project_run:dcao_run_observation_age_seconds:min{project=~"$project", run=~"$run"}', "{{run}}")],
        kind="stat",
        width=3,
        height=4,
        unit="s",
        description="Seconds since it was made.",
    ),
    value("Overdue", "dcao_run_stale", unit="bool_yes_no"),
    value("Diverged", "dcao_run_diverged", unit="bool_yes_no"),
    value("Attempt", "dcao_run_attempt", unit="none"),
    Panel(
        "What it is",
        [Query(f"max by (project, run, optimizer, policy, status) (dcao_run_info{RUNS})", instant=True, table=True)],
        kind="table",
        width=24,
        height=4,
        transformations=[{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}],
    ),
]

CURVATURE = [
    Panel(
        "Edge ratio",
        [
            Query('project_run:dcao_run_edge_ratio:max{project=~"$project", run=~"$run"}', "{{run}} full batch"),
            line("dcao_run_batch_edge_ratio", "small batches"),
        ],
        width=24,
        height=9,
        low=0,
        styles=[Style(".*full batch$", BLUE), Style(".*small batches$", SKY, dash=True, width=1)],
        steps=[
            {"color": "transparent", "value": None},
            {"color": ORANGE, "value": 0.8},
            {"color": VERMILLION, "value": 1},
        ],
        show_steps="line+area",
        description="The line at 1 is the edge of stability; from 0.8 on the controller calls it the edge. "
        "Full batch: η·ρ / threshold. Small batches: η·(batch sharpness) / 2(1−β).",
    ),
    Panel(
        "Sharpness and the stability threshold",
        [
            line("dcao_run_sharpness", "ρ"),
            line("dcao_run_batch_sharpness", "along the gradient"),
            line("dcao_run_sharpness_limit", "edge at this η"),
        ],
        log=True,
        height=9,
        styles=[
            Style(".*ρ$", BLUE),
            Style(".*along the gradient$", SKY, dash=True, width=1),
            Style(".*edge at this η$", VERMILLION, dash=True),
        ],
        description="Where ρ meets the dashed line, η·ρ is at its threshold: 2(1+β) for heavy ball.",
    ),
    Panel(
        "Spectral gap and smallest eigenvalue",
        [line("dcao_run_spectral_gap", "γ"), line("dcao_run_lambda_min", "λ min")],
        height=9,
        styles=[Style(".*γ$", PURPLE), Style(".*λ min$", GREY)],
    ),
]


def controlled(title: str, metric: str, base: str, symbol: str) -> Panel:
    """A hyperparameter with what it would be without DCAO."""
    return Panel(
        title,
        [line(metric, symbol), line(base, "without DCAO")],
        width=8,
        styles=[Style(f".*{symbol}$", GREEN), Style(".*without DCAO$", GREY, dash=True, width=1)],
    )


DECIDED = [
    controlled("Learning rate", "dcao_run_learning_rate", "dcao_run_base_learning_rate", "η"),
    controlled("Momentum", "dcao_run_momentum", "dcao_run_base_momentum", "β"),
    controlled("Weight decay", "dcao_run_weight_decay", "dcao_run_base_weight_decay", "λ"),
    Panel(
        "Multipliers",
        [
            line("dcao_run_learning_rate_multiplier", "f (η)"),
            line("dcao_run_momentum_multiplier", "g (β)"),
            line("dcao_run_weight_decay_multiplier", "h (λ)"),
        ],
        width=12,
        log=True,
        styles=[Style(r".*f \(η\)$", BLUE), Style(r".*g \(β\)$", ORANGE), Style(r".*h \(λ\)$", PURPLE)],
        description="Value in use = base × multiplier; 1 leaves the base as it is.",
    ),
    Panel(
        "Share of decisions with η at a bound",
        [Query('project_run:dcao_run_at_bound:ratio_rate15m{project=~"$project", run=~"$run"}', "{{run}}")],
        width=6,
        unit="percentunit",
        low=0,
        high=1,
        description="Time at a bound. Near 1 the law only says 'as low (or high) as I may'.",
    ),
    Panel(
        "Decisions in a row at a bound",
        [line("dcao_run_decisions_at_bound_in_a_row")],
        width=6,
        low=0,
        steps=[{"color": "transparent", "value": None}, {"color": VERMILLION, "value": 10}],
        show_steps="dashed",
    ),
]

PROGRESS = [
    Panel("Loss", [line("dcao_run_loss")], width=8),
    Panel(
        "Rolling variance of the loss and of ρ",
        [line("dcao_run_loss_variance", "loss"), line("dcao_run_sharpness_variance", "ρ")],
        width=8,
        log=True,
        styles=[Style(".*loss$", ORANGE), Style(".*ρ$", BLUE)],
        description="The stability metric: what control is meant to keep low.",
    ),
    Panel("Gradient norm", [line("dcao_run_gradient_norm")], width=8, log=True),
]

WHY = [
    Panel(
        "Reasons",
        [
            Query(
                "sum by (reason) (max without (instance, job) "
                f"(increase(dcao_run_decision_reasons_total{RUNS}[$__range]))) > 0",
                "{{reason}}",
                instant=True,
            )
        ],
        kind="bargauge",
        width=12,
        height=9,
        low=0,
        decimals=0,
        description="How often each stage changed or held a value, in the time range.",
    ),
    Panel(
        "Decisions by outcome",
        [
            Query(
                "sum by (outcome) (max without (instance, job) "
                f"(increase(dcao_run_decisions_total{RUNS}[$__rate_interval])))",
                "{{outcome}}",
            )
        ],
        width=12,
        height=9,
        stacked=True,
        low=0,
        description="backfilled: made by the client while the controller was away; replayed: sent twice; "
        "fenced: sent by an attempt that no longer owns the run.",
    ),
]

COST = [
    Panel(
        "Share of the time spent in probes",
        [line("dcao_run_probe_overhead_ratio")],
        width=8,
        unit="percentunit",
        low=0,
        steps=[{"color": "transparent", "value": None}, {"color": VERMILLION, "value": 0.05}],
        show_steps="dashed",
        description="The budget is 5 % unless the run set another one.",
    ),
    Panel("Seconds of a probe", [line("dcao_run_probe_duration_seconds")], width=8, unit="s", low=0),
    Panel("Hessian-vector products of a probe", [line("dcao_run_probe_products")], width=8, low=0),
]


def dashboard() -> Json:
    """The dashboard of one run."""
    return assemble(
        "dcao-run",
        "DCAO / Run",
        "Sharpness, edge of stability, decisions and their reasons of a live run.",
        sections=[
            ("Now", NOW),
            ("Curvature", CURVATURE),
            ("What was decided", DECIDED),
            ("Progress and stability", PROGRESS),
            ("Why", WHY),
            ("What it cost", COST),
        ],
        variables=[
            variable("project", "Project", "label_values(dcao_run_info, project)", multi=False),
            variable("run", "Run", 'label_values(dcao_run_info{project=~"$project"}, run)', multi=True),
        ],
        annotations=[
            annotation(
                "Attempts",
                f"changes({of('dcao_run_attempt')}[30s:5s]) > 0",
                PURPLE,
                "{{run}} was restarted",
                "A new attempt owns the run.",
            ),
            annotation(
                "Alerts",
                'ALERTS{alertstate="firing", project=~"$project", run=~"$run"}',
                VERMILLION,
                "{{alertname}}",
                "{{run}}",
            ),
        ],
        links=[
            link("Fleet", "dcao-fleet", keep_variables=False),
            link("Service", "dcao-service", keep_variables=False),
        ],
    )
