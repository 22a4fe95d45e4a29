"""Routes of the history: parse and delegate."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from dcao_proto import HistoryPage, Outline, PolicyChoice, ProblemKind, paths
from dcao_server.asgi.json_route import JsonRoute
from dcao_server.compression import compressed
from dcao_server.context import Ctx
from dcao_server.history.events import stream
from dcao_server.history.formats import csv_rows, ndjson
from dcao_server.history.outline import Part
from dcao_server.history.parquet import parquet, require_pyarrow
from dcao_server.history.rights import Rights, rights_of, while_allowed
from dcao_server.history.service import parse_cursor
from dcao_server.responses import JSON, count_query, problems
from dcao_server.runs.endpoints import BODY, NO_RUN, Key

router = APIRouter(tags=["history"], route_class=JsonRoute)

MOST_RECORDS = 10_000
PAGE = 1000
POINTS, MOST_POINTS = 1000, 2000
"""Records of an outline: as many as a chart is wide; a kilobyte each, before compression."""
Format = Literal["json", "ndjson", "csv", "parquet"]
NDJSON, CSV, PARQUET, EVENTS = (
    "application/x-ndjson",
    "text/csv; charset=utf-8",
    "application/vnd.apache.parquet",
    "text/event-stream",
)
_TEXT = {"schema": {"type": "string"}}
_EVENT = {
    "schema": {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "attempt:step, for Last-Event-ID."},
            "event": {"type": "string", "enum": ["decision", "bye", "away"]},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "description": "Of a decision: its record.",
            },
        },
    }
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
After = Annotated[
    str | None, Query(max_length=64, description="attempt:step of a record; those after it. A bare step: of attempt 1.")
]


def _also(*media: tuple[str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Further representations of a 200."""
    return {200: {"content": {name.partition(";")[0]: schema for name, schema in media}}}


@router.get(
    paths.DECISIONS,
    response_model=HistoryPage,
    response_model_exclude_none=True,
    responses={
        **_also((NDJSON, _TEXT), (CSV, _TEXT), (PARQUET, _BINARY)),
        **problems(NO_RUN, ProblemKind.NOT_ACCEPTABLE),
    },
    summary="A run's decisions, in order",
)
async def read_history(
    context: Ctx,
    key: Key,
    request: Request,
    after: After = None,
    limit: Annotated[
        int | None, count_query(2**53 - 1, f"Records at most; json: {PAGE} if absent, {MOST_RECORDS} at most.")
    ] = None,
    format: Annotated[  # noqa: A002  (the parameter's name on the wire)
        Format, Query(description="json: one page; ndjson, csv, parquet: the whole history, streamed.")
    ] = "json",
) -> Response:
    """`json` gives a page whose `next_cursor` leads to the next; the others stream everything after `after`.

    CSV and Parquet have one flat row for each record; floats read back bit for bit.
    """
    await context.runs.stored(key)
    if format == "json":
        return Response(await context.history.page(key, after, min(limit or PAGE, MOST_RECORDS)), media_type=JSON)
    batches = context.history.batches(key, parse_cursor(after), limit)
    name = f"{key.project}.{key.run}"
    rights = rights_of(request.scope, context.settings)
    if format == "ndjson":
        return _download(ndjson(batches), NDJSON, f"{name}.ndjson", rights)
    if format == "csv":
        return _download(csv_rows(batches), CSV, f"{name}.csv", rights)
    require_pyarrow()
    return _download(parquet(batches), PARQUET, f"{name}.parquet", rights)


def _download(content: AsyncIterator[bytes], media_type: str, name: str, rights: Rights) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(while_allowed(content, rights), media_type=media_type, headers=headers)


@router.get(paths.OUTLINE, response_model=Outline, responses=problems(NO_RUN), summary="A run's decisions, for a chart")
async def outline_history(
    context: Ctx,
    key: Key,
    request: Request,
    points: Annotated[int, Query(ge=16, le=MOST_POINTS, description="Records at most.")] = POINTS,
    first: Annotated[int | None, Query(ge=0, le=2**53 - 1, description="Only steps from this one on.")] = None,
    last: Annotated[int | None, Query(ge=0, le=2**53 - 1, description="Only steps up to this one.")] = None,
) -> Response:
    """So many records that the curves look as if all were drawn; `total` says of how many.

    A long history is answered as far as it has been read after a third of a second; `complete` says whether that is
    all. Live records come after it by `GET …/events` with its `cursor`.
    """
    run = await context.runs.stored(key)
    body = await context.outlines.outline(run, Part(key, points, first, last))
    return await compressed(request, body, JSON)


@router.get(
    paths.EVENTS,
    response_class=StreamingResponse,
    responses={200: {"content": {EVENTS: _EVENT}, "description": "The stream, event by event"}, **problems(NO_RUN)},
    summary="A run's decisions, live",
)
async def events(
    context: Ctx,
    key: Key,
    request: Request,
    after: After = None,
    last_event_id: Annotated[
        str | None, Header(max_length=64, description="ID of the last event seen; goes before `after`.")
    ] = None,
) -> Response:
    """Server-sent events: `decision` with a record as data and `attempt:step` as ID, comments as pings.

    Begins with the first record after `Last-Event-ID` or `after`, or with the first of all. Records that are
    backfilled below the newest do not appear; the history has them.
    """
    position = parse_cursor(last_event_id or after)
    await context.runs.stored(key)
    rights = rights_of(request.scope, context.settings)
    content = stream(context.history.follow(key, position), context.lifecycle, context.metrics, rights=rights)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(content, media_type=EVENTS, headers=headers)


@router.post(
    paths.REPLAY,
    response_class=StreamingResponse,
    responses={
        200: {"content": {NDJSON: _TEXT}, "description": "One decision a line, in the order of the records"},
        **problems(NO_RUN, *BODY),
    },
    summary="The recorded run under another policy",
)
async def replay_run(
    context: Ctx,
    key: Key,
    choice: PolicyChoice,
    request: Request,
    points: Annotated[
        int | None, Query(ge=16, le=MOST_POINTS, description="Decisions at most, for a chart; all if absent.")
    ] = None,
) -> Response:
    """For each recorded observation the decision that this policy would have made. Nothing is stored."""
    run = await context.runs.stored(key)
    content = while_allowed(context.history.replay(run, choice, points), rights_of(request.scope, context.settings))
    return StreamingResponse(content, media_type=NDJSON)
