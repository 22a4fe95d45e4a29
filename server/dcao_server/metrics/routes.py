"""`GET /metrics` and `GET /metrics/runs`, in the text format that the scraper asks for."""

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.concurrency import run_in_threadpool

from dcao_proto import paths
from dcao_server.metrics.service import Metrics


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The registry's samples in the format that an Accept header asks for, and that format's media type."""
    encoder, content_type = choose_encoder(accept)
    encode: Callable[[CollectorRegistry], bytes] = encoder
    return encode(registry), content_type


def metrics_router(metrics: Metrics) -> APIRouter:
    """The route of one replica's own metrics. Rendered in a thread: a scrape delays no decision."""
    router = APIRouter(tags=["metrics"])

    @router.get(paths.METRICS, response_class=Response, summary="Service metrics of this replica, for Prometheus")
    async def service_metrics(request: Request) -> Response:
        body, content_type = await run_in_threadpool(render, metrics.registry, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    return router
