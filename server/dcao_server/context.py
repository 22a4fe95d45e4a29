"""What the routes of one application share; made once by `create_app`, found by every request."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from dcao_server.asgi.lifecycle import Lifecycle
from dcao_server.decisions.backfill import BackfillService
from dcao_server.decisions.service import DecisionService
from dcao_server.history.outline import Outlines
from dcao_server.history.service import HistoryService
from dcao_server.metrics import Metrics
from dcao_server.readiness import Readiness
from dcao_server.runs.catalogue import Catalogue
from dcao_server.runs.service import RunService
from dcao_server.settings import Settings
from dcao_server.store.contract import HistoryStore


@dataclass(frozen=True)
class Context:
    """Settings, store, metrics, and the services above them."""

    settings: Settings
    store: HistoryStore
    metrics: Metrics
    lifecycle: Lifecycle
    runs: RunService
    catalogue: Catalogue
    decisions: DecisionService
    backfills: BackfillService
    history: HistoryService
    outlines: Outlines
    readiness: Readiness


def context_of(request: Request) -> Context:
    """The application's context."""
    context = request.app.state.context
    assert isinstance(context, Context)  # noqa: S101  (create_app sets it)
    return context


Ctx = Annotated[Context, Depends(context_of)]
