"""Is the process alive, and is it ready for work? Two questions: a live process without a store is still of use."""

from fastapi import APIRouter, Response

from dcao_proto import ProblemError, ProblemKind, paths
from dcao_proto.message import Message
from dcao_server.context import Ctx
from dcao_server.responses import answer, problems

router = APIRouter(tags=["operation"])


class Health(Message):
    """The answer of both."""

    status: str = "ok"


@router.head(paths.HEALTHZ, include_in_schema=False)
@router.get(paths.HEALTHZ, response_model=Health, summary="Is the process alive?")
async def healthz() -> Response:
    """Always, when it can answer. It does not ask the store: a restart would not bring that back."""
    return answer(Health())


@router.head(paths.READYZ, include_in_schema=False)
@router.get(paths.READYZ, response_model=Health, responses=problems(ProblemKind.NOT_READY), summary="Ready for work?")
async def readyz(context: Ctx) -> Response:
    """Whether the store can be read and written and the process is not about to stop."""
    if context.lifecycle.draining:
        raise ProblemError(
            ProblemKind.SHUTTING_DOWN, "expected a replica that serves, this one stops", headers={"Retry-After": "5"}
        )
    if not await context.readiness.reachable():
        raise ProblemError(
            ProblemKind.NOT_READY,
            f"expected a {context.store.kind} store that can be read and written, but "
            f"{context.metrics.condition.trouble or 'the store cannot be reached'}. Workers that echo their state are "
            "served without it",
            headers={"Retry-After": "1"},
        )
    return answer(Health())
