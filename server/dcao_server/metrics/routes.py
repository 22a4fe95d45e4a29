"""`GET /metrics` and `GET /metrics/runs`, in the text format that the scraper asks for."""

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from dcao_proto import paths
from dcao_server.metrics.run_exposition import CONTENT_TYPE
from dcao_server.metrics.run_metrics import RunMetrics
from dcao_server.metrics.service import Metrics


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The registry's samples in the format that an Accept header asks for, and that format's media type."""
    encoder, content_type = choose_encoder(accept)
    encode: Callable[[CollectorRegistry], bytes] = encoder
    return encode(registry), content_type


def metrics_router(metrics: Metrics, runs: RunMetrics) -> APIRouter:
    """The routes of one replica's own metrics (some hundred samples, rendered at once) and of the live runs'."""
    router = APIRouter(tags=["metrics"])

    @router.get(paths.METRICS, response_class=Response, summary="Service metrics of this replica, for Prometheus")
    async def service_metrics(request: Request) -> Response:
        body, content_type = render(metrics.registry, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    @router.get(paths.RUN_METRICS, response_class=Response, summary="Metrics of the live runs, for Prometheus")
    async def run_metrics() -> Response:
        with metrics.store_call("live"):
            body = await runs.text()
        return Response(body, headers={"content-type": CONTENT_TYPE})

    return router
