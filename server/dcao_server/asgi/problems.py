"""Every answer that is not a success is a problem document, whoever raised it; none carries a stack trace."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from dcao_proto.problem import PROBLEM_MEDIA_TYPE, ProblemError, ProblemKind, field_errors
from dcao_server.asgi.context import current_request_id
from dcao_server.store.contract import StoreUnavailableError

_BY_STATUS = {
    400: ProblemKind.MALFORMED,
    401: ProblemKind.UNAUTHENTICATED,
    403: ProblemKind.FORBIDDEN,
    404: ProblemKind.NOT_FOUND,
    405: ProblemKind.METHOD_NOT_ALLOWED,
    406: ProblemKind.NOT_ACCEPTABLE,
    413: ProblemKind.TOO_LARGE,
    415: ProblemKind.UNSUPPORTED_MEDIA,
    422: ProblemKind.INVALID,
    429: ProblemKind.RATE_LIMITED,
    431: ProblemKind.HEADERS_TOO_LARGE,
    503: ProblemKind.NOT_READY,
}
INTERNAL_DETAIL = (
    "the controller failed; try again, and give the instance below to whoever runs it: the log has the rest"
)


def problem_body(error: ProblemError, request_id: str | None = None) -> bytes:
    """The document's JSON; its instance is the request's ID."""
    return error.document(request_id or current_request_id() or None).wire_json()


def problem_response(error: ProblemError) -> Response:
    """The document as a response, with the error's own headers."""
    return Response(problem_body(error), error.kind.status, headers=error.headers, media_type=PROBLEM_MEDIA_TYPE)


def install_handlers(app: FastAPI) -> None:
    """Makes FastAPI's and Starlette's own errors problem documents too."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(StoreUnavailableError, _store_unavailable)


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 - registered for this class
    return problem_response(error)


async def _invalid(request: Request, error: Exception) -> Response:
    """422 for what does not fit; 400 for a body that is no JSON at all. FastAPI's own 422 echoes the input."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    errors = error.errors()
    allowed = allowed_methods(request.app, request.scope)
    if request.method not in allowed:
        # `PUT …/{run}` took `r:finish` for a run's name.
        return problem_response(_not_allowed(request, allowed))
    if any(e["type"] == "json_invalid" for e in errors):
        return problem_response(
            ProblemError(ProblemKind.MALFORMED, "expected a JSON document as body, got something else")
        )
    fields = field_errors(errors)
    detail = f"expected a request that fits the schema (see /openapi.json), got {len(errors)} fields that do not fit"
    return problem_response(ProblemError(ProblemKind.INVALID, detail, errors=fields))


async def _store_unavailable(request: Request, error: Exception) -> Response:
    """Routes that can do without the store catch this themselves."""
    assert isinstance(error, StoreUnavailableError)  # noqa: S101 - registered for this class
    context = getattr(request.app.state, "context", None)
    if context is not None:
        context.metrics.condition.failed(error)
    return problem_response(
        ProblemError(
            ProblemKind.STORE_UNAVAILABLE,
            f"expected a store that answers, but {error}. Try again: whatever was sent may be sent twice",
            headers={"Retry-After": "1"},
        )
    )


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    kind = _BY_STATUS.get(
        error.status_code, ProblemKind.INTERNAL if error.status_code >= 500 else ProblemKind.MALFORMED
    )
    headers = dict(error.headers or {})
    where = f"{request.method} {request.url.path[:200]}"
    if kind is ProblemKind.NOT_FOUND:
        detail = f"expected a path of the API (see /openapi.json), got {where}"
    elif kind is ProblemKind.METHOD_NOT_ALLOWED:
        return problem_response(_not_allowed(request, allowed_methods(request.app, request.scope)))
    else:
        detail = str(error.detail)
    return problem_response(ProblemError(kind, detail, headers=headers))


def _not_allowed(request: Request, allowed: list[str]) -> ProblemError:
    names = ", ".join(allowed)
    detail = f"expected one of {names}, got {request.method} {request.url.path[:200]}"
    return ProblemError(ProblemKind.METHOD_NOT_ALLOWED, detail, headers={"Allow": names})


def allowed_methods(app: FastAPI, scope: Mapping[str, Any]) -> list[str]:
    """Methods that the scope's path has, over all routes: Starlette names those of the first route only.

    A path with a verb (`…/{run}:finish`) is the verb's, not that of a run whose name has a colon.
    """
    matched = [route for route in _flat(app.routes) if route.matches(dict(scope))[0] is not Match.NONE]
    verbs = [route for route in matched if ":" in str(getattr(route, "path", "")).rpartition("/")[2]]
    methods: set[str] = set()
    for route in verbs or matched:
        methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


def _flat(routes: Sequence[BaseRoute]) -> Iterator[BaseRoute]:
    """Routes, those of included routers among them, which FastAPI keeps in one entry each."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is None:
            yield route
        else:
            yield from _flat(inner.routes)
