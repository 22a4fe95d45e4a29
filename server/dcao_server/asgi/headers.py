"""Headers that every answer carries, and those that a page needs besides."""

Header = tuple[bytes, bytes]

ON_EVERY_ANSWER: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
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


def completed(headers: list[Header], extra: tuple[Header, ...]) -> list[Header]:
    """The headers and those of `extra` that are not there: a route that knows better keeps its own."""
    present = {name for name, _ in headers}
    return [*headers, *(header for header in extra if header[0] not in present)]


def is_page(headers: list[Header]) -> bool:
    """A browser would render it."""
    return any(name == b"content-type" and value.startswith(b"text/html") for name, value in headers)
