"""Sockets with one clock: whatever a peer does, a request is over when its time is up.

httpx gives each read a time of its own, so a peer that sends a byte a second keeps a request open as long as it likes.
Here every connect, handshake, read and write gets what is left of the request's time.
"""

import ssl
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import certifi
import httpcore
import httpx

from dcao_client.errors import SettingsError

PIECE = 16 * 1024  # bytes written before the clock is looked at again


class Clock:
    """When the request under way must be over."""

    def __init__(self) -> None:
        self.end = 0.0

    def start(self, seconds: float) -> None:
        """A request begins."""
        self.end = time.monotonic() + seconds

    def left(self, late: type[Exception] = httpcore.ReadTimeout) -> float:
        """Seconds left.

        Raises:
            late: none.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise late("the request's time is up")
        return left


class _Stream(httpcore.NetworkStream):
    """A connection under the clock."""

    def __init__(self, stream: httpcore.NetworkStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._clock.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), PIECE):
            self._stream.write(buffer[start : start + PIECE], self._clock.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._clock.left(httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens connections under the clock."""

    def __init__(self, clock: Clock) -> None:
        self._real = httpcore.SyncBackend()
        self._clock = clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._clock.left(httpcore.ConnectTimeout)
        return _Stream(self._real.connect_tcp(host, port, left, local_address, socket_options), self._clock)

    def sleep(self, seconds: float) -> None:
        self._real.sleep(seconds)


class _Body(httpx.SyncByteStream):
    """The answer's body, as it comes off the wire."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        self._stream.close()


class TimedTransport(httpx.BaseTransport):
    """One connection to a controller, each request within the clock's time.

    Args:
        clock: started by whoever sends a request.
        idle_seconds: how long an unused connection is kept.
        secure: whether TLS will be spoken; loading what is trusted takes 0.1 s.
        ca_file: certificates to trust besides the system's.
        proxy: HTTP proxy, with its user and password if it wants them.

    Raises:
        SettingsError: `ca_file` is not one.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        idle_seconds: float,
        secure: bool,
        ca_file: Path | None = None,
        proxy: str | None = None,
    ) -> None:
        backend = _Backend(clock)
        context = trust(ca_file) if secure else None
        self._pool: httpcore.ConnectionPool
        if proxy is None:
            self._pool = httpcore.ConnectionPool(
                ssl_context=context, max_connections=1, keepalive_expiry=idle_seconds, network_backend=backend
            )
        else:
            there = httpx.Proxy(proxy)  # takes user and password out of the URL
            self._pool = httpcore.HTTPProxy(
                proxy_url=str(there.url),
                proxy_auth=there.raw_auth,
                ssl_context=context,
                max_connections=1,
                keepalive_expiry=idle_seconds,
                network_backend=backend,
            )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        reply = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            status_code=reply.status, headers=reply.headers, stream=_Body(reply.stream), extensions=reply.extensions
        )

    def close(self) -> None:
        self._pool.close()


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """The certificates to trust: the system's (or those of `SSL_CERT_FILE`), httpx's own list, and a private CA's.

    Raises:
        SettingsError: `ca_file` cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(
                f"DCAO_CA_FILE: expected a file of certificates (PEM), got {ca_file}: {error.strerror or error}"
            ) from None
    return context
