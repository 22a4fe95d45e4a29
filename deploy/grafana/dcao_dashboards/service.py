"""The controllers: rate, errors, duration; their store; what they are made of."""

from dcao_dashboards.parts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
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

ON = 'instance=~"$instance"'
DECISIONS = 'method="POST", route="/v1/projects/{project}/runs/{run}/decisions"'


def rate(metric: str, by: str, extra: str = "") -> str:
    """Events per second."""
    return f"sum by ({by}) (rate({metric}{{{ON}{extra}}}[$__rate_interval]))"


def quantiles(metric: str, extra: str = "", by: str = "") -> list[Query]:
    """Median, 95th and 99th percentile of a histogram."""
    labels = f"le, {by}" if by else "le"
    buckets = f"sum by ({labels}) (rate({metric}_bucket{{{ON}{extra}}}[$__rate_interval]))"
    legend = f"{{{{{by}}}}} " if by else ""
    return [Query(f"histogram_quantile({q}, {buckets})", f"{legend}p{int(100 * q)}") for q in (0.5, 0.95, 0.99)]


QUANTILE_STYLES = [Style(".*p50$", GREEN), Style(".*p95$", BLUE), Style(".*p99$", ORANGE)]

NOW = [
    Panel("Replicas", [Query('sum(up{job="dcao-controller"})')], kind="stat", width=4, height=4, unit="none"),
    Panel(
        "Store",
        [Query(f"min(dcao_store_up{{{ON}}})")],
        kind="stat",
        width=4,
        height=4,
        steps=[{"color": VERMILLION, "value": None}, {"color": GREEN, "value": 1}],
        mappings=[{"type": "value", "options": {"0": {"text": "down"}, "1": {"text": "up"}}}],
    ),
    Panel("Decisions per second", [Query(rate("dcao_decisions_total", "job"))], kind="stat", width=4, height=4),
    Panel(
        "99th percentile of a decision",
        [Query("job:dcao_decision_duration_seconds:p99_rate5m")],
        kind="stat",
        width=4,
        height=4,
        unit="s",
        steps=[{"color": GREEN, "value": None}, {"color": ORANGE, "value": 0.05}, {"color": VERMILLION, "value": 0.25}],
    ),
    Panel(
        "Requests that fail",
        [Query("job:dcao_http_errors:ratio_rate5m or 0 * job:dcao_http_requests:rate5m")],
        kind="stat",
        width=4,
        height=4,
        unit="percentunit",
        steps=[{"color": GREEN, "value": None}, {"color": VERMILLION, "value": 0.01}],
    ),
    Panel(
        "Version",
        [Query(f"count by (version) (dcao_build_info{{{ON}}})", "{{version}}")],
        kind="stat",
        width=4,
        height=4,
        unit="none",
        options={"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "name", "colorMode": "none"},
    ),
]

DECIDING = [
    Panel(
        "Duration of a decision",
        quantiles("dcao_http_request_duration_seconds", f", {DECISIONS}"),
        unit="s",
        log=True,
        styles=QUANTILE_STYLES,
        steps=[{"color": "transparent", "value": None}, {"color": VERMILLION, "value": 0.05}],
        show_steps="dashed",
        description="From the request's first byte to the end of the answer. The promise: 99.9 % within 50 ms.",
    ),
    Panel(
        "Budget of slow decisions",
        [
            Query(f"job:dcao_slow_decisions:ratio_rate{window}", f"over {window}")
            for window in ("5m", "30m", "1h", "6h")
        ],
        unit="percentunit",
        low=0,
        steps=[{"color": "transparent", "value": None}, {"color": VERMILLION, "value": 0.001}],
        show_steps="dashed",
        description="Share of decisions that took more than 50 ms; the dashed line is the promise.",
    ),
    Panel(
        "What became of observations",
        [Query(rate("dcao_decisions_total", "outcome"), "{{outcome}}")],
        width=8,
        unit="ops",
        stacked=True,
        low=0,
    ),
    Panel(
        "Observations by status",
        [Query(rate("dcao_observations_total", "status"), "{{status}}")],
        width=8,
        unit="ops",
        stacked=True,
        low=0,
    ),
    Panel(
        "Reasons",
        [Query(f"topk(10, {rate('dcao_decision_reasons_total', 'reason')} > 0)", "{{reason}}")],
        width=8,
        unit="ops",
        low=0,
    ),
    Panel("Duration of the law itself", quantiles("dcao_policy_duration_seconds"), unit="s", styles=QUANTILE_STYLES),
    Panel(
        "Problems answered",
        [Query(f"{rate('dcao_problems_total', 'kind')} > 0 or 0 * {rate('dcao_problems_total', 'kind')}", "{{kind}}")],
        unit="ops",
        stacked=True,
        low=0,
    ),
]

STORE = [
    Panel(
        "Duration of store calls",
        quantiles("dcao_store_call_duration_seconds", by="op"),
        unit="s",
        log=True,
    ),
    Panel(
        "Store calls per second",
        [Query(rate("dcao_store_call_duration_seconds_count", "op"), "{{op}}")],
        width=6,
        unit="ops",
        low=0,
    ),
    Panel(
        "Failed store calls",
        [
            Query(
                f"{rate('dcao_store_errors_total', 'op, kind')} or "
                f"0 * {rate('dcao_store_call_duration_seconds_count', 'op')}",
                "{{op}} {{kind}}",
            )
        ],
        width=6,
        unit="ops",
        low=0,
    ),
]

HTTP = [
    Panel(
        "Requests by route",
        [Query(rate("dcao_http_requests_total", "route, method"), "{{method}} {{route}}")],
        unit="reqps",
        low=0,
    ),
    Panel(
        "Requests by status code",
        [Query(rate("dcao_http_requests_total", "code"), "{{code}}")],
        width=6,
        unit="reqps",
        stacked=True,
        low=0,
    ),
    Panel(
        "Requests and streams open",
        [
            Query(f"sum(dcao_http_requests_in_progress{{{ON}}})", "requests"),
            Query(f"sum(dcao_event_streams{{{ON}}})", "event streams"),
        ],
        width=6,
        low=0,
    ),
]

PROCESS = [
    Panel(
        "CPU",
        [Query(rate("process_cpu_seconds_total", "instance", ', job="dcao-controller"'), "{{instance}}")],
        width=6,
    ),
    Panel(
        "Memory",
        [
            Query(f'process_resident_memory_bytes{{{ON}, job="dcao-controller"}}', "{{instance}}"),
        ],
        width=6,
        unit="bytes",
        low=0,
    ),
    Panel(
        "File descriptors",
        [
            Query(f'process_open_fds{{{ON}, job="dcao-controller"}}', "{{instance}}"),
            Query(f'process_max_fds{{{ON}, job="dcao-controller"}}', "{{instance}} limit"),
        ],
        width=6,
        log=True,
        styles=[Style(".*limit$", GREY, dash=True, width=1)],
    ),
    Panel(
        "Garbage collections",
        [Query(rate("python_gc_collections_total", "generation"), "generation {{generation}}")],
        width=6,
        unit="ops",
    ),
    Panel(
        "Collecting the live runs for a scrape",
        [Query("max(dcao_run_metrics_collect_duration_seconds)", "seconds")],
        width=12,
        unit="s",
        low=0,
    ),
    Panel(
        "Age of the live runs' metrics",
        [Query("time() - max(dcao_run_metrics_timestamp_seconds)", "seconds")],
        width=12,
        unit="s",
        low=0,
    ),
]


def dashboard() -> Json:
    """The dashboard of the service."""
    return assemble(
        "dcao-service",
        "DCAO / Service",
        "The controllers and their store: rate, errors, duration, saturation.",
        sections=[("Now", NOW), ("Deciding", DECIDING), ("Store", STORE), ("HTTP", HTTP), ("Process", PROCESS)],
        variables=[variable("instance", "Replica", "label_values(dcao_build_info, instance)", multi=True)],
        annotations=[
            annotation(
                "Restarts",
                f'changes(process_start_time_seconds{{{ON}, job="dcao-controller"}}[30s]) > 0',
                BLUE,
                "{{instance}} restarted",
                "",
            ),
            annotation(
                "Alerts",
                'ALERTS{alertstate="firing", project=""}',
                VERMILLION,
                "{{alertname}}",
                "{{instance}}",
            ),
        ],
        links=[
            link("Fleet", "dcao-fleet", keep_variables=False),
            link("Run", "dcao-run", keep_variables=False),
        ],
    )
