"""Routes of decisions: parse and delegate."""

import re

from fastapi import APIRouter, Response
from starlette.types import Scope

from dcao_proto import (
    BackfillRequest,
    BackfillResult,
    DecideRequest,
    Decision,
    Observation,
    ProblemError,
    ProblemKind,
    paths,
)
from dcao_proto.message import NAME_PATTERN
from dcao_proto.problem import FieldError
from dcao_server.asgi.direct_route import GuardedRoute
from dcao_server.asgi.json_route import JsonRoute
from dcao_server.asgi.shape import check_shape
from dcao_server.context import Context, Ctx
from dcao_server.decisions.hot_route import HotRoute, ShortcutApp
from dcao_server.decisions.journal import parse_journal
from dcao_server.decisions.parsing import parse
from dcao_server.responses import answer, problems
from dcao_server.runs.endpoints import BODY, NO_RUN, Key
from dcao_server.store.contract import RunKey

router = APIRouter(tags=["decisions"], route_class=JsonRoute)

HEALED = {
    "description": "Only when the store had lost writes: the newest step that it still had, -1 if none. Whoever keeps "
    "newer records should backfill them.",
    "schema": {"type": "integer", "minimum": -1},
}
_is_name = re.compile(NAME_PATTERN).fullmatch


@router.post(
    paths.DECIDE,
    response_model=Decision,
    response_model_exclude_none=True,
    responses=problems(ProblemKind.INVALID_STATE, *BODY),
    summary="Decide without a run",
)
async def decide(context: Ctx, request: DecideRequest) -> Response:
    """Specification, observation and state in, decision and state out. Nothing is stored."""
    return answer(context.decisions.simulate(request))


async def observe(key: Key, observation: Observation) -> Decision:
    """The first decision of a step stands: a retry, a second worker or a duplicate gets the same, marked `replayed`.

    Echo `state` and `version` of the last decision: then any replica decides at once, and even without the store.
    """
    raise NotImplementedError  # HotRoute serves it


async def backfill(key: Key, request: BackfillRequest) -> BackfillResult:
    """Takes up to 1,000 decisions that a client made on its own, in order of step. May be repeated.

    What the client applied is the truth and is stored as such; decisions that this controller's policy would not have
    made are marked.
    """
    raise NotImplementedError  # HotRoute serves it


def mount(app: ShortcutApp, context: Context) -> None:
    """Adds the hot routes, and the shortcut to the hottest."""

    async def decided(names: tuple[str, ...], body: bytes) -> tuple[bytes, dict[str, str] | None]:
        check_shape(body)
        decision, headers = await context.decisions.decide(RunKey(*names), parse(Observation, body))
        return decision.wire_json(), headers

    async def serve_decision(scope: Scope, body: bytes) -> tuple[bytes, dict[str, str] | None]:
        return await decided(_key(scope), body)

    async def serve_backfill(scope: Scope, body: bytes) -> tuple[bytes, dict[str, str] | None]:
        key = _key(scope)
        return (await context.backfills.backfill(key, await parse_journal(body))).wire_json(), None

    refusals = (NO_RUN, ProblemKind.FENCED, ProblemKind.STALE_STEP, ProblemKind.RUN_ENDED, ProblemKind.INVALID_STATE)
    route = HotRoute(
        paths.DECISIONS,
        observe,
        handler=serve_decision,
        methods=["POST"],
        response_model=Decision,
        responses={200: {"headers": {paths.HEALED_AFTER_HEADER: HEALED}}, **problems(*refusals, *BODY)},
        summary="Observe and decide",
        tags=["decisions"],
    )
    app.router.routes.insert(0, route)
    app.hot = route
    app.direct = GuardedRoute(
        paths.DECISIONS,
        decided,
        guard=app.state.guard,
        lifecycle=context.lifecycle,
        metrics=context.metrics,
        settings=context.settings,
    )
    app.router.routes.append(
        HotRoute(
            paths.BACKFILL,
            backfill,
            handler=serve_backfill,
            methods=["POST"],
            response_model=BackfillResult,
            responses=problems(*refusals, *BODY),
            summary="Replay a client's journal",
            tags=["decisions"],
        )
    )


def _key(scope: Scope) -> RunKey:
    """The run that the path names.

    Raises:
        ProblemError: invalid; a name has characters that names do not have.
    """
    parameters = scope["path_params"]
    for name in ("project", "run"):
        if not _is_name(parameters[name]):
            field = FieldError(
                loc=("path", name), msg=f"String should match pattern '{NAME_PATTERN}'", type="string_pattern_mismatch"
            )
            raise ProblemError(
                ProblemKind.INVALID,
                "expected names of 1 to 63 letters, digits, '.', '_' and '-' in the path, starting with a letter or "
                "digit",
                errors=(field,),
            )
    return RunKey(parameters["project"], parameters["run"])
