"""A request that offers another protocol is answered in this one, as RFC 9110 §7.8 lets a server do.

Java's client and `curl --http2` send `Upgrade: h2c` with every first request. httptools skips the body of such a
request, so uvicorn, which ignores the offer, would answer it as if it had none. Here the request's head is parsed
again without the offer, and its body with it.
"""

import typing
from collections.abc import Iterable
from typing import Any

import httptools

_OFFERS = frozenset({b"upgrade", b"http2-settings"})


class Protocol(typing.Protocol):
    """What the parser calls besides httptools' callbacks."""

    def parse_plain(self, rest: bytes) -> bool:
        """Begins the request again, its offer ignored; False when there is none to begin again."""


class PlainParser(httptools.HttpRequestParser):
    """httptools' parser, but what follows an ignored offer goes to `protocol.parse_plain` instead of nowhere."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def feed_data(self, data: Any) -> None:
        """Parses a part of the stream."""
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._protocol.parse_plain(data[upgrade.args[0] :]):
                raise


def head_without_offer(method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head of an HTTP/1.1 request, without the headers that offer another protocol."""
    lines = [b"%b %b HTTP/1.1" % (method, url)]
    for name, value in headers:
        if name.lower() in _OFFERS:
            continue
        if name.lower() == b"connection":
            value = b", ".join(token for part in value.split(b",") if (token := part.strip()).lower() not in _OFFERS)
            if not value:
                continue
        lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"
