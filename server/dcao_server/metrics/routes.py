"""`GET /metrics` and `GET /metrics/runs`, in the text format that the scraper asks for."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.responses import StreamingResponse

from dcao_proto import paths
from dcao_server.metrics.run_exposition import CONTENT_TYPE
from dcao_server.metrics.run_metrics import RunMetrics
from dcao_server.metrics.run_pace import Pace
from dcao_server.metrics.service import Metrics


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The registry's samples in the format that an Accept header asks for, and that format's media type."""
    encoder, content_type = choose_encoder(accept)
    encode: Callable[[CollectorRegistry], bytes] = encoder
    return encode(registry), content_type


def metrics_router(metrics: Metrics, runs: RunMetrics) -> APIRouter:
    """The routes of one replica's own metrics and of the live runs'.

    A replica's own are rendered in a thread: clients decide how many series there are (every route with every status
    that it can answer), and thousands of samples would keep the event loop for 60 ms.
    """
    router = APIRouter(tags=["metrics"])

    @router.head(paths.METRICS, include_in_schema=False)
    @router.get(paths.METRICS, response_class=Response, summary="Service metrics of this replica, for Prometheus")
    async def service_metrics(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(render, metrics.registry, accept)
        return Response(body, headers={"content-type": content_type})

    @router.head(paths.RUN_METRICS, include_in_schema=False)
    @router.get(paths.RUN_METRICS, response_class=Response, summary="Metrics of the live runs, for Prometheus")
    async def run_metrics() -> Response:
        with metrics.store_call("live"):
            body = await runs.pieces()
        pace = Pace(metrics.requests_in_progress)
        length = str(sum(map(len, body)))
        return StreamingResponse(
            _one_by_one(body, pace), headers={"content-type": CONTENT_TYPE, "content-length": length}
        )

    return router


async def _one_by_one(pieces: Sequence[bytes], pace: Pace) -> AsyncIterator[bytes]:
    """To write megabytes at once would keep the event loop for a millisecond."""
    for piece in pieces:
        yield piece
        await pace.breathe()
