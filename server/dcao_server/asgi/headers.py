"""Headers that every answer carries, and those that a page needs besides."""

from collections.abc import Iterable

Header = tuple[bytes, bytes]

NO_SNIFFING: Header = (b"x-content-type-options", b"nosniff")
NO_STORING: Header = (b"cache-control", b"no-store")
CLOSE: Header = (b"connection", b"close")
ON_PAGES: tuple[Header, ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
"""The run page loads its own files and talks to its own origin; nothing on it is inline and nobody may frame it."""


def completed(headers: Iterable[Header], request_id: str, *, closing: bool) -> list[Header]:
    """An answer's headers with ours; a route that says itself how long its answer may be kept has its way.

    Args:
        headers: the route's, names in lower case.
        request_id: to find the request in the log.
        closing: the connection is to be closed after this answer.
    """
    complete = list(headers)
    storable = page = False
    for name, value in complete:
        if name == b"cache-control":
            storable = True
        elif name == b"content-type":
            page = value.startswith(b"text/html")
    complete.append(NO_SNIFFING)
    if not storable:
        complete.append(NO_STORING)
    complete.append((b"x-request-id", request_id.encode("ascii")))
    if page:
        complete.extend(ON_PAGES)
    if closing:
        complete.append(CLOSE)
    return complete
