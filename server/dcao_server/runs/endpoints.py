"""Routes of runs: parse and delegate."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Request, Response

from dcao_proto import (
    Attempt,
    AttemptRequest,
    ProblemError,
    ProblemKind,
    ProjectList,
    Run,
    RunAbout,
    RunEnd,
    RunList,
    RunPage,
    RunSpec,
    paths,
)
from dcao_proto.listing import RunGroup, RunOrder
from dcao_proto.message import NAME_PATTERN
from dcao_proto.run import RunStatus
from dcao_server.asgi.envelope import KEY
from dcao_server.asgi.json_route import JsonRoute
from dcao_server.compression import compressed
from dcao_server.context import Ctx
from dcao_server.responses import JSON, answer, count_query, name_path, problems
from dcao_server.runs.catalogue import MOST_RUNS
from dcao_server.runs.catalogue import Query as RunQuery
from dcao_server.store.contract import RunKey

router = APIRouter(tags=["runs"], route_class=JsonRoute)

Project = Annotated[str, name_path("Project that the run belongs to.")]


def run_key(project: Project, run: Annotated[str, name_path("Name of the run in its project.")]) -> RunKey:
    """The run that the path names."""
    return RunKey(project, run)


Key = Annotated[RunKey, Depends(run_key)]
NO_RUN = ProblemKind.RUN_NOT_FOUND
BODY = (ProblemKind.TOO_LARGE, ProblemKind.UNSUPPORTED_MEDIA)


@router.put(
    paths.RUN,
    response_model=Run,
    responses={201: {"model": Run, "description": "Created"}, **problems(ProblemKind.RUN_CONFLICT, *BODY)},
    summary="Create a run, or get it",
)
async def create_run(context: Ctx, key: Key, spec: RunSpec) -> Response:
    """The same body again gives the same run; another body is a conflict."""
    run, created = await context.runs.create(key, spec)
    return answer(run, 201 if created else 200)


@router.get(paths.RUN, response_model=Run, responses=problems(NO_RUN), summary="A run")
async def get_run(context: Ctx, key: Key) -> Response:
    """The run with its specification, status and newest step."""
    return answer(await context.runs.get(key))


@router.delete(paths.RUN, status_code=204, responses=problems(NO_RUN), summary="Delete a run with its history")
async def delete_run(context: Ctx, key: Key) -> Response:
    """For good. A worker that goes on does not bring it back; a PUT does, anew."""
    await context.runs.delete(key)
    return Response(status_code=204)


@router.get(paths.PROJECTS, response_model=ProjectList, responses=problems(), summary="Projects that have runs")
async def list_projects(
    context: Ctx,
    request: Request,
    cursor: Annotated[str | None, Query(max_length=512, description="next_cursor of the page before.")] = None,
    limit: Annotated[int, count_query(1000, "Projects on the page, at most.")] = 100,
) -> Response:
    """In order of name, those that the caller's API key may read; all of them where keys are off."""
    return answer(await context.runs.projects(request.scope.get(KEY), cursor=cursor, limit=limit))


@router.get(paths.ALL_RUNS, response_model=RunList, responses=problems(), summary="Runs, searched and sorted")
async def search_runs(
    context: Ctx,
    request: Request,
    text: Annotated[
        str, Query(max_length=256, description="Words that all occur in name, project, policy, labels or the like.")
    ] = "",
    project: Annotated[str | None, Query(pattern=NAME_PATTERN, description="Only runs of this project.")] = None,
    status: Annotated[
        RunGroup | None, Query(description="live (created, active or stale), ended (finished or failed), or one.")
    ] = None,
    policy: Annotated[str | None, Query(max_length=128, description="Only runs with this policy.")] = None,
    label: Annotated[
        list[str] | None, Query(max_length=32, description="name=value; with all of them if repeated.")
    ] = None,
    sort: Annotated[RunOrder, Query(description="By what; `updated` has live runs first.")] = "updated",
    ascending: Annotated[bool, Query(description="The smallest first; what has no value is last either way.")] = False,
    offset: Annotated[int, Query(ge=0, le=MOST_RUNS, description="Runs to leave out from the start.")] = 0,
    limit: Annotated[int, count_query(200, "Runs on the page, at most.")] = 50,
) -> Response:
    """Of all projects that the caller's API key may read, with where each run stands or stood at its end."""
    labels = tuple(_labels(label or []).items())
    query = RunQuery(text, project, status, policy, labels, sort, ascending, offset, limit)
    page = await context.catalogue.list(query, request.scope.get(KEY))
    return await compressed(request, page.wire_json(), JSON)


@router.get(paths.RUNS, response_model=RunPage, responses=problems(), summary="Runs of a project, newest first")
async def list_runs(
    context: Ctx,
    project: Project,
    status: Annotated[RunStatus | None, Query(description="Only runs with this status.")] = None,
    label: Annotated[
        list[str] | None, Query(description="name=value; only runs with this label, with all of them if repeated.")
    ] = None,
    cursor: Annotated[str | None, Query(max_length=512, description="next_cursor of the page before.")] = None,
    limit: Annotated[int, count_query(1000, "Runs on the page, at most.")] = 50,
) -> Response:
    """One page; `next_cursor` leads to the next."""
    labels = _labels(label or [])
    page = await context.runs.page(project, status=status, labels=labels, cursor=cursor, limit=limit)
    return Response(page, media_type=JSON)


@router.put(paths.ABOUT, response_model=Run, responses=problems(NO_RUN, *BODY), summary="Title, note and tags of a run")
async def annotate_run(context: Ctx, key: Key, about: RunAbout) -> Response:
    """Instead of what was written before; an empty object takes it away. No decision depends on it."""
    return answer(await context.runs.annotate(key, about))


@router.post(paths.FINISH, response_model=Run, responses=problems(NO_RUN, ProblemKind.RUN_ENDED, *BODY))
async def finish_run(context: Ctx, key: Key, end: Annotated[RunEnd | None, Body()] = None) -> Response:
    """The run has reached its end. No decisions are made after it; a backfill still is taken."""
    return answer(await context.runs.end(key, "finished", end.reason if end else None))


@router.post(paths.FAIL, response_model=Run, responses=problems(NO_RUN, ProblemKind.RUN_ENDED, *BODY))
async def fail_run(context: Ctx, key: Key, end: Annotated[RunEnd | None, Body()] = None) -> Response:
    """The run has ended otherwise than hoped."""
    return answer(await context.runs.end(key, "failed", end.reason if end else None))


@router.post(
    paths.ATTEMPTS,
    response_model=Attempt,
    responses=problems(NO_RUN, ProblemKind.FENCED, ProblemKind.RUN_ENDED, ProblemKind.INVALID_STATE, *BODY),
    summary="Restart a run from a checkpoint",
)
async def begin_attempt(context: Ctx, key: Key, request: AttemptRequest) -> Response:
    """The new attempt owns the run; whatever the one before still sends is refused as fenced."""
    return answer(await context.runs.restart(key, request))


def _labels(texts: list[str]) -> dict[str, str]:
    labels = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise ProblemError(ProblemKind.INVALID, "expected label=name=value, for example label=model=resnet18")
        labels[name] = value
    return labels
