"""The application: the one place that knows every part."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import FastAPI

from dcao_server import health
from dcao_server.asgi import install
from dcao_server.context import Context
from dcao_server.decisions import endpoints as decisions
from dcao_server.decisions.backfill import BackfillService
from dcao_server.decisions.hot_route import ShortcutApp
from dcao_server.decisions.service import DecisionService
from dcao_server.ending import end
from dcao_server.history import endpoints as history
from dcao_server.history.outline import Outlines
from dcao_server.history.service import HistoryService
from dcao_server.metrics import Metrics
from dcao_server.metrics.middleware import RequestMetrics
from dcao_server.metrics.routes import metrics_router
from dcao_server.metrics.run_metrics import RunMetrics
from dcao_server.openapi import describe
from dcao_server.page.routes import page_router
from dcao_server.policies import endpoints as policies
from dcao_server.readiness import Readiness
from dcao_server.runs import endpoints as runs
from dcao_server.runs.catalogue import Catalogue
from dcao_server.runs.service import RunService
from dcao_server.runs.status import status_of
from dcao_server.settings import Settings
from dcao_server.store import create_store
from dcao_server.store.contract import HistoryStore, StoredRun, StoreUnavailableError


def create_app(settings: Settings | None = None, *, store: HistoryStore | None = None) -> FastAPI:
    """A controller that is ready to be served.

    Args:
        settings: from the environment if absent.
        store: used instead of the one that the settings ask for; the application closes it too.

    Raises:
        SettingsError: these settings must not serve.
    """
    settings = settings or Settings()
    store = store or create_store(settings)
    metrics = Metrics()
    app = ShortcutApp(
        title="DCAO controller",
        version=version("dcao"),
        summary="Curvature in; learning rate, momentum and weight decay out.",
        openapi_url=None,  # `describe` serves it
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    lifecycle = install(app, settings)
    # Outermost: what the guard refuses is counted too.
    app.add_middleware(RequestMetrics, metrics=metrics)
    service = RunService(store, metrics, stale_factor=settings.stale_factor, stale_floor=settings.stale_floor_seconds)
    context = Context(
        settings=settings,
        store=store,
        metrics=metrics,
        lifecycle=lifecycle,
        runs=service,
        catalogue=Catalogue(store, metrics, service.status),
        decisions=DecisionService(store, metrics),
        backfills=BackfillService(store, metrics),
        history=HistoryService(store, metrics),
        outlines=Outlines(store, metrics),
        readiness=Readiness(store, metrics),
    )
    app.state.context = context
    for router in (runs.router, decisions.router, history.router, policies.router, health.router):
        app.include_router(router)
    app.include_router(metrics_router(metrics, _run_metrics(settings, store, metrics)))
    app.include_router(page_router())
    decisions.mount(app, context)
    describe(app)
    return app


def _run_metrics(settings: Settings, store: HistoryStore, metrics: Metrics) -> RunMetrics:
    def is_stale(run: StoredRun, now: float) -> bool:
        return status_of(run, now, factor=settings.stale_factor, floor=settings.stale_floor_seconds) == "stale"

    return RunMetrics(
        store,
        is_stale,
        max_runs=settings.run_metrics_max,
        window_seconds=settings.run_metrics_window_seconds,
        in_progress=metrics.requests_in_progress,
    )


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    look: asyncio.Task[None] | None = None
    try:
        await context.store.open()
        look = asyncio.create_task(_look_at(context.store, context.metrics), name="first look at the store")
        yield
    finally:
        await end(look)
        await context.catalogue.stop()
        await context.outlines.stop()
        await context.store.close()


async def _look_at(store: HistoryStore, metrics: Metrics) -> None:
    """What is wrong with the store is in the log before the first request: `store_call` says it.

    Beside the start, which waits for nothing; and not through `Readiness`, which would answer from this for a second.
    """
    with contextlib.suppress(StoreUnavailableError), metrics.store_call("ping"):
        await store.ping()
