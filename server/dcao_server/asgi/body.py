"""What a request's body must be before anything reads it: JSON, not too large, and without too many values in it."""

from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from dcao_proto.problem import ProblemError, ProblemKind
from dcao_server.asgi.shape import check_shape
from dcao_server.settings import KIB, Settings

_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_JSON = b"application/json"
BACKFILL = ":backfill"
LIMITS = (
    (":finish", 4 * KIB),
    (":fail", 4 * KIB),
    (":replay", 16 * KIB),
    ("/attempts", 96 * KIB),
)
"""Bytes of the bodies of paths that end so: a reason of 128 characters, a policy's parameters, a token of 64 KiB."""
PUT_LIMIT = 32 * KIB
"""Of a run's specification: 32 labels and the policy's parameters."""
READ_LIMIT = 4 * KIB
"""Of a GET, HEAD or DELETE, whose body nobody reads."""


class BodyLimits:
    """How large the body of each route may be; `DCAO_BODY_LIMIT` is the most for all but a backfill."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.body_limit
        self._backfill = settings.backfill_body_limit

    def of(self, method: str, path: str) -> int:
        """Bytes."""
        if method == "POST":
            if path.endswith(BACKFILL):
                return self._backfill
            fits = next((limit for end, limit in LIMITS if path.endswith(end)), self._most)
        else:
            fits = PUT_LIMIT if method == "PUT" else READ_LIMIT
        return min(fits, self._most)


def too_large(limit: int) -> ProblemError:
    """413 for a body of more than `limit` bytes."""
    return ProblemError(
        ProblemKind.TOO_LARGE,
        f"expected a body of at most {limit} bytes, got more; send less at once (a backfill takes up to 1,000 "
        "entries), or raise DCAO_BODY_LIMIT or DCAO_BACKFILL_BODY_LIMIT if that is what it is",
    )


def check_body(method: str, headers: Mapping[bytes, bytes], limit: int) -> bool:
    """Whether there is a body.

    Raises:
        ProblemError: too-large or unsupported-media; the body was not read.
    """
    length = headers.get(b"content-length")
    chunked = b"transfer-encoding" in headers
    if (length is None or not length.strip(b"0")) and not chunked:
        return False
    # llhttp has checked that it is a decimal number, and that there is one only.
    if length is not None and not chunked and int(length) > limit:
        raise too_large(limit)
    if method in _WITH_BODY:
        media = headers.get(b"content-type", b"")
        if media != _JSON and media.split(b";", 1)[0].strip().lower() != _JSON:
            raise ProblemError(
                ProblemKind.UNSUPPORTED_MEDIA,
                "expected a body with `Content-Type: application/json`, got "
                + (media.decode("latin-1")[:100] or "none")
                + "; with curl add `-H 'Content-Type: application/json'`",
            )
    return True


async def read_body(receive: Receive, limit: int) -> bytes:
    """All of it.

    Raises:
        ProblemError: too-large, as soon as more than `limit` bytes have come.
        ClientDisconnect: half a body is none.
    """
    parts: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect()
        part: bytes = message.get("body", b"")
        total += len(part)
        if total > limit:
            raise too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def taken(receive: Receive, limit: int, *, sliced: bool) -> Receive:
    """`receive` again, after the body was read and looked at as a whole.

    Args:
        receive: the request's.
        limit: bytes of the body.
        sliced: the route takes the body apart itself and bounds what it finds.

    Raises:
        ProblemError: too-large, invalid.
        ClientDisconnect: the body did not come.
    """
    body: bytes | None = await read_body(receive, limit)
    if not sliced:
        check_shape(body or b"")

    async def again() -> Message:
        nonlocal body
        if body is None:
            return await receive()
        whole, body = body, None
        return {"type": "http.request", "body": whole, "more_body": False}

    return again
