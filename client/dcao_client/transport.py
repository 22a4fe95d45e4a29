"""HTTP to the controller: one connection, bounded in time and size, problems as exceptions.

Nothing that a library says of a request is passed on unless it is about the network: it may hold the key.
"""

import math
import time
import zlib
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import NamedTuple

import httpcore
import httpx

from dcao_client.errors import AnswerError, RefusedError, SettingsError, UnreachableError
from dcao_client.network import Clock, TimedTransport
from dcao_client.once import Once
from dcao_client.settings import ClientSettings
from dcao_proto.problem import TYPE_PREFIX, ProblemDetails
from dcao_proto.reading import MAX_ANSWER, UnreadableAnswerError, read_answer

# Below uvicorn's default of 5 s: the client drops an idle connection before the server does, so no request meets a
# connection that is just being closed.
IDLE_SECONDS = 4.0
MAX_RETRY_AFTER = 60.0  # s; a controller that wants to be left alone for longer is asked again all the same
MAX_TEXT = 300  # characters of a controller's words that go into a log
UNEXPECTED = "unexpected-answer"
NETWORK = (httpx.NetworkError, httpx.TimeoutException, httpcore.NetworkError, httpcore.TimeoutException)


class Reply(NamedTuple):
    """An answer that is a success."""

    status: int
    body: bytes
    headers: httpx.Headers


def open_transport(settings: ClientSettings, url: str, http: httpx.BaseTransport | None, once: Once) -> "Transport":
    """A transport as the settings say, over real sockets unless `http` is given.

    Raises:
        SettingsError: the file of certificates is none.
    """
    clock = Clock()
    proxy = settings.proxy.get_secret_value() if settings.proxy is not None else None
    secure = any(there.startswith("https") for there in (url, proxy or ""))
    over = http or TimedTransport(
        clock, idle_seconds=IDLE_SECONDS, secure=secure, ca_file=settings.ca_file, proxy=proxy
    )

    def read_key() -> str | None:
        try:
            return settings.read_api_key()
        except SettingsError as error:
            once.warn("key", "%s; going on without a key", error)
            return None

    return Transport(url, read_key, http=over, clock=clock)


class Transport:
    """Blocking requests to one controller. Not thread-safe: it belongs to the session's courier thread.

    Args:
        url: base URL.
        read_api_key: gives the key as it is now; asked again once after a 401 or 403.
        http: a transport for httpx.
        clock: what `http` goes by, if it does.
    """

    def __init__(
        self, url: str, read_api_key: Callable[[], str | None], *, http: httpx.BaseTransport, clock: Clock
    ) -> None:
        self._read_api_key = read_api_key
        self._api_key = read_api_key()
        self._clock = clock
        self._client = httpx.Client(
            base_url=url,
            transport=http,
            trust_env=False,
            headers={"accept-encoding": "identity"},
            cookies=_no_cookies(),
        )

    def send(self, method: str, path: str, body: bytes | None = None, *, timeout: float) -> Reply:
        """One request.

        Args:
            method: HTTP method.
            path: absolute path.
            body: JSON.
            timeout: seconds for all of it, from connecting to the last byte of the answer.

        Raises:
            UnreachableError: no answer, a server error, or an answer to try again later.
            AnswerError: an answer that is too large or in an unknown encoding.
            RefusedError: any other problem.
        """
        self._clock.start(timeout)
        reply = self._send_once(method, path, body, timeout)
        if reply.status in (401, 403) and self._key_changed():
            reply = self._send_once(method, path, body, timeout)
        if 200 <= reply.status < 300:
            return reply
        raise _failure(reply)

    def _key_changed(self) -> bool:
        fresh = self._read_api_key()
        changed, self._api_key = fresh != self._api_key, fresh
        return changed

    def _send_once(self, method: str, path: str, body: bytes | None, timeout: float) -> Reply:
        headers = {"content-type": "application/json"} if body is not None else {}
        if self._api_key:
            headers["authorization"] = f"Bearer {self._api_key}"
        try:
            with self._client.stream(method, path, content=body, headers=headers, timeout=timeout) as reply:
                return Reply(reply.status_code, self._read(reply), reply.headers)
        except NETWORK as error:
            text = _clean(str(error))
        except OSError as error:
            text = error.strerror or "the network failed"
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            text = type(error).__name__
        except (httpcore.ProtocolError, httpcore.ProxyError, httpcore.UnsupportedProtocol) as error:
            text = type(error).__name__
        raise UnreachableError(f"{method} {path}: {text}")

    def _read(self, reply: httpx.Response) -> bytes:
        """The body, as long as it may be and no longer, however well it was compressed."""
        encoding = reply.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity", "gzip"):
            raise AnswerError("encoding", "expected an answer that is not compressed, or with gzip")
        if reply.is_stream_consumed:  # a transport of a test has read it
            return reply.content
        raw = bytearray()
        for piece in reply.iter_raw():
            raw += piece
            if len(raw) > MAX_ANSWER:
                break
            if time.monotonic() > self._clock.end:
                raise UnreachableError("the answer did not end in time")
        if encoding == "gzip" and len(raw) <= MAX_ANSWER:
            raw = bytearray(_inflated(bytes(raw)))
        if len(raw) > MAX_ANSWER:
            raise AnswerError("size", f"expected an answer of at most {MAX_ANSWER} bytes, got more")
        return bytes(raw)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


def _no_cookies() -> CookieJar:
    """Nobody's cookies: they would pile up, and be sent along until a server finds the head too large."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


def _inflated(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        return unpacker.decompress(body, MAX_ANSWER + 1)
    except zlib.error:
        raise AnswerError("encoding", "expected an answer compressed with gzip, got one that is not") from None


def _failure(reply: Reply) -> UnreachableError | RefusedError:
    slug, detail, retryable, newer = _problem(reply)
    if retryable or reply.status >= 500:
        return UnreachableError(f"{reply.status} {slug}: {detail}", retry_after(reply.headers.get("retry-after")))
    return RefusedError(slug, reply.status, detail, newer=newer)


def redirected(status: int, location: str | None) -> str | None:
    """What to do about a redirect, which is not followed: the key would go along."""
    if not 300 <= status < 400 or status == 304:
        return None
    where = _clean(location) if location else "an address that it does not tell"
    return f"expected a controller, got a redirect ({status}) to {where}; set DCAO_URL to what answers itself"


def _problem(reply: Reply) -> tuple[str, str, bool, bool]:
    if (elsewhere := redirected(reply.status, reply.headers.get("location"))) is not None:
        return UNEXPECTED, elsewhere, False, False
    try:
        problem = read_answer(ProblemDetails, reply.body)
    except UnreadableAnswerError:  # a proxy's page, or not a controller at all
        kind = _clean(reply.headers.get("content-type", "nothing"))[:60]
        return UNEXPECTED, f"expected a problem document with status {reply.status}, got {kind}", False, False
    slug = _clean(problem.type.removeprefix(TYPE_PREFIX))[:60]
    errors = problem.errors or ()
    newer = any(error.type == "extra_forbidden" for error in errors)
    fields = (f"{'.'.join(map(str, error.loc))}: {error.msg}" for error in errors[:3])
    return slug, _clean("; ".join((problem.detail, *fields))), problem.retryable, newer


def _clean(text: str) -> str:
    """A stranger's words for a log: one line, not long."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_TEXT])


def retry_after(value: str | None) -> float | None:
    """Seconds that a controller wants to be left alone, at most a minute; None if it says nothing that makes sense."""
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) or seconds > 0 else None
