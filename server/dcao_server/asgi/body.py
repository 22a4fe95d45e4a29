"""What a request's body must be before anything reads it: JSON, and not too large."""

from collections.abc import Mapping

from starlette.types import Message, Receive

from dcao_proto.problem import ProblemError, ProblemKind

_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_JSON = b"application/json"
BACKFILL = ":backfill"


def too_large(limit: int) -> ProblemError:
    """413 for a body of more than `limit` bytes."""
    return ProblemError(
        ProblemKind.TOO_LARGE,
        f"expected a body of at most {limit} bytes, got more; send less at once (a backfill takes up to 1,000 "
        "entries), or raise DCAO_BODY_LIMIT or DCAO_BACKFILL_BODY_LIMIT",
    )


def check_body(method: str, headers: Mapping[bytes, bytes], limit: int) -> bool:
    """Whether the body's length is still unknown, so that it must be counted while it arrives.

    Raises:
        ProblemError: too-large or unsupported-media; the body was not read.
    """
    length = headers.get(b"content-length")
    chunked = b"transfer-encoding" in headers
    if (length is None or length == b"0") and not chunked:
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
    return chunked


def counted(receive: Receive, limit: int) -> Receive:
    """`receive`, which raises once more than `limit` bytes have come: for bodies that do not say their length."""
    total = 0

    async def counting() -> Message:
        nonlocal total
        message = await receive()
        if message["type"] == "http.request":
            total += len(message.get("body", b""))
            if total > limit:
                raise too_large(limit)
        return message

    return counting
