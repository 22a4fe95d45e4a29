"""Routes of the history: parse and delegate."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from dcao_proto import HistoryPage, paths
from dcao_server.context import Ctx
from dcao_server.responses import answer, count_query, problems
from dcao_server.runs.endpoints import NO_RUN, Key

router = APIRouter(tags=["history"])

MOST_RECORDS = 10_000


@router.get(
    paths.DECISIONS,
    response_model=HistoryPage,
    response_model_exclude_none=True,
    responses=problems(NO_RUN),
    summary="A run's decisions, in order",
)
async def read_history(
    context: Ctx,
    key: Key,
    after: Annotated[str | None, Query(max_length=64, description="attempt:step; records after it.")] = None,
    limit: Annotated[int, count_query(MOST_RECORDS, "Records on the page, at most.")] = 1000,
) -> Response:
    """One page; `next_cursor` leads to the next."""
    await context.runs.stored(key)
    return answer(await context.history.page(key, after, limit))
