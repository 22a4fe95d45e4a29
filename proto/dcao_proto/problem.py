"""Problem details (RFC 9457): one closed list of what can go wrong, each with what to do about it."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from pydantic import Field

from dcao_proto.message import Message

PROBLEM_MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "https://dcao.dev/problems/"


class ProblemKind(Enum):
    """slug, HTTP status, retryable, title. Retryable: the same request may succeed later, unchanged."""

    MALFORMED = ("malformed", 400, False, "The request is not readable")
    UNAUTHENTICATED = ("unauthenticated", 401, False, "An API key is needed")
    FORBIDDEN = ("forbidden", 403, False, "The API key does not allow this")
    RUN_NOT_FOUND = ("run-not-found", 404, False, "No such run")
    NOT_FOUND = ("not-found", 404, False, "No such resource")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, False, "The resource does not support this method")
    NOT_ACCEPTABLE = ("not-acceptable", 406, False, "That representation is not offered")
    RUN_CONFLICT = ("run-conflict", 409, False, "The run exists with another specification")
    RUN_ENDED = ("run-ended", 409, False, "The run has ended")
    FENCED = ("fenced", 409, False, "A newer attempt owns the run")
    STALE_STEP = ("stale-step", 409, False, "The history is past this step")
    INVALID_STATE = ("invalid-state", 422, False, "The state token is not valid")
    TOO_LARGE = ("too-large", 413, False, "The body is too large")
    UNSUPPORTED_MEDIA = ("unsupported-media", 415, False, "The body is not JSON")
    INVALID = ("invalid", 422, False, "The request does not fit the schema")
    RATE_LIMITED = ("rate-limited", 429, True, "Too many requests")
    HEADERS_TOO_LARGE = ("headers-too-large", 431, False, "The request headers are too large")
    INTERNAL = ("internal", 500, True, "The controller failed")
    STORE_UNAVAILABLE = ("store-unavailable", 503, True, "The store cannot be reached")
    SHUTTING_DOWN = ("shutting-down", 503, True, "The controller is shutting down")
    NOT_READY = ("not-ready", 503, True, "The controller is not ready")

    def __init__(self, slug: str, status: int, retryable: bool, title: str) -> None:
        self.slug = slug
        self.status = status
        self.retryable = retryable
        self.title = title

    @property
    def type(self) -> str:
        """Stable URI that identifies the kind; clients compare it, people look it up."""
        return TYPE_PREFIX + self.slug


class FieldError(Message):
    """One field that does not fit. The value itself is not echoed: it may be a NaN or a secret."""

    loc: tuple[str | int, ...] = Field(description="Where: body or query, then field names and indices.")
    msg: str = Field(description="What was expected.")
    type: str = Field(description="Machine-readable kind of the error.")


class ProblemDetails(Message):
    """The body of every answer that is not a success."""

    type: str = Field(description="Stable URI of the kind of problem.")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What was expected, what was got, what to do.")
    instance: str | None = Field(default=None, description="Request ID, to find it in the logs.")
    retryable: bool = Field(description="The same request may succeed later, unchanged.")
    errors: tuple[FieldError, ...] | None = None


class ProblemError(Exception):
    """Raised anywhere in the controller; the one handler turns it into a problem document.

    Args:
        kind: which problem.
        detail: what was expected, what was got, what to do.
        errors: per-field errors, if any.
        headers: further response headers, for example Retry-After.
    """

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        *,
        errors: tuple[FieldError, ...] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def document(self, instance: str | None = None) -> ProblemDetails:
        """The problem document."""
        return ProblemDetails(
            type=self.kind.type,
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            instance=instance,
            retryable=self.kind.retryable,
            errors=self.errors,
        )


MOST_ERRORS = 20
"""Field errors in one document: whoever sends more mistakes than that is told of the first."""
MOST_TEXT = 100
"""Characters of a field's name in it: an unknown one is the client's own."""


def field_errors(errors: Sequence[Any], place: tuple[str | int, ...] = ()) -> tuple[FieldError, ...]:
    """The first of pydantic's errors without the input, the context and the documentation link.

    Args:
        errors: pydantic's.
        place: what their places begin with.
    """
    return tuple(
        FieldError(loc=tuple(map(_short, (*place, *e["loc"]))), msg=e["msg"], type=e["type"])
        for e in errors[:MOST_ERRORS]
    )


def _short(part: str | int) -> str | int:
    return part if isinstance(part, int) or len(part) <= MOST_TEXT else part[:MOST_TEXT] + "…"
