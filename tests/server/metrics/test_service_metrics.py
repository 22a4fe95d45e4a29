"""What one replica counts."""

import subprocess

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

from dcao_proto.policy.reasons import REASONS
from dcao_proto.problem import ProblemError, ProblemKind
from dcao_server.asgi.problems import install_handlers
from dcao_server.metrics import Metrics
from dcao_server.metrics.middleware import RequestMetrics
from dcao_server.metrics.routes import render
from dcao_server.metrics.service import STORE_ERROR_KINDS
from dcao_server.store.contract import StoreUnavailableError
from dcao_server.store.trouble import Trouble, TroubleKind


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), process=False)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def application(metrics: Metrics) -> TestClient:
    app = FastAPI()
    install_handlers(app)

    @app.get("/v1/projects/{project}/runs/{run}")
    async def run(project: str, run: str) -> dict[str, str]:
        if run == "other":
            raise ProblemError(ProblemKind.RUN_NOT_FOUND, "no such run")
        return {"run": run}

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(iter([b": ping\n\n"]), media_type="text/event-stream")

    app.add_middleware(RequestMetrics, metrics=metrics)
    return TestClient(app)


def test_requests_are_counted_and_timed_under_their_routes_template(metrics: Metrics) -> None:
    client = application(metrics)
    for run in ("a", "b", "c"):
        assert client.get(f"/v1/projects/vision/runs/{run}").status_code == 200
    labels = {"route": "/v1/projects/{project}/runs/{run}", "method": "GET"}
    assert value(metrics, "dcao_http_requests_total", code="200", **labels) == 3
    assert value(metrics, "dcao_http_request_duration_seconds_count", **labels) == 3
    assert value(metrics, "dcao_http_requests_in_progress") == 0


def test_paths_and_methods_that_a_client_invents_make_no_series_of_their_own(metrics: Metrics) -> None:
    client = application(metrics)
    for path in ("/etc/passwd", "/v1/nothing", "/wp-admin"):
        client.get(path)
    client.request("BREW", "/coffee")
    assert value(metrics, "dcao_http_requests_total", route="unmatched", method="GET", code="404") == 3
    assert value(metrics, "dcao_http_requests_total", route="unmatched", method="other", code="404") == 1


def test_problem_documents_are_counted_by_kind(metrics: Metrics) -> None:
    application(metrics).get("/v1/projects/vision/runs/other")
    assert value(metrics, "dcao_problems_total", kind="run-not-found") == 1
    assert value(metrics, "dcao_problems_total", kind="fenced") == 0


def test_an_event_stream_is_counted_but_not_timed(metrics: Metrics) -> None:
    application(metrics).get("/events")
    assert value(metrics, "dcao_http_requests_total", route="/events", method="GET", code="200") == 1
    assert value(metrics, "dcao_http_request_duration_seconds_count", route="/events", method="GET") is None


def test_every_closed_label_value_is_there_from_the_start(metrics: Metrics) -> None:
    assert all(value(metrics, "dcao_decision_reasons_total", reason=code) == 0 for code in REASONS)
    assert all(value(metrics, "dcao_problems_total", kind=kind.slug) == 0 for kind in ProblemKind)
    assert value(metrics, "dcao_decisions_total", outcome="fenced") == 0
    assert value(metrics, "dcao_store_up") == 1


def test_reasons_of_a_plug_in_share_one_series(metrics: Metrics) -> None:
    metrics.decided("decided", ["clamped:lr", "my-plug-in:one", "my-plug-in:two"])
    assert value(metrics, "dcao_decision_reasons_total", reason="clamped:lr") == 1
    assert value(metrics, "dcao_decision_reasons_total", reason="other") == 2


def test_a_backfill_counts_each_entry_by_what_became_of_it(metrics: Metrics) -> None:
    metrics.backfilled(stored=7, replayed=2, fenced=1)
    found = [value(metrics, "dcao_decisions_total", outcome=o) for o in ("backfilled", "replayed", "fenced")]
    assert found == [7, 2, 1]


def test_a_failed_store_call_is_timed_counted_and_seen_until_one_succeeds(metrics: Metrics) -> None:
    with pytest.raises(StoreUnavailableError), metrics.store_call("append"):
        raise StoreUnavailableError(Trouble(TroubleKind.TIMEOUT, "no reply"))
    assert value(metrics, "dcao_store_errors_total", op="append", kind="timeout") == 1
    assert value(metrics, "dcao_store_call_duration_seconds_count", op="append") == 1
    assert value(metrics, "dcao_store_up") == 0
    with metrics.store_call("append"):
        pass
    assert value(metrics, "dcao_store_up") == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StoreUnavailableError("away"), "unavailable"),
        (StoreUnavailableError(Trouble(TroubleKind.FULL, "OOM")), "full"),
        (ZeroDivisionError(), "other"),
        (KeyError("run"), None),
        (ProblemError(ProblemKind.FENCED, "a newer attempt owns the run"), None),
    ],
)
def test_what_a_store_call_raised_is_named_for_people(metrics: Metrics, error: Exception, kind: str | None) -> None:
    with pytest.raises(type(error)), metrics.store_call("append"):
        raise error
    counted = {k: value(metrics, "dcao_store_errors_total", op="append", kind=k) for k in STORE_ERROR_KINDS}
    assert {k for k, count in counted.items() if count} == ({kind} if kind else set())


def test_two_replicas_in_one_process_do_not_share_anything() -> None:
    first, second = Metrics(process=False), Metrics(process=False)
    first.decided("decided")
    assert value(second, "dcao_decisions_total", outcome="decided") == 0


def test_the_text_is_clean_by_promtool_and_openmetrics_is_offered() -> None:
    metrics = Metrics()
    metrics.http("/v1/policies", "GET", 200, 0.001)
    with metrics.store_call("append"):
        metrics.decided("decided", ["clamped:lr"])
    body, content_type = render(metrics.registry, "text/plain")
    assert content_type.startswith("text/plain")
    linted = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert (linted.returncode, linted.stderr) == (0, b"")
    names = {family.name for family in text_string_to_metric_families(body.decode())}
    assert {"process_resident_memory_bytes", "dcao_build_info", "dcao_decisions"} <= names
    assert render(metrics.registry, "application/openmetrics-text; version=1.0.0")[1].startswith("application/openm")
