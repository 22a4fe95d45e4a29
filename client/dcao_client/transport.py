"""HTTP to the controller: one connection, bounded waits, problems as exceptions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
from pydantic import ValidationError

from dcao_client.errors import RefusedError, UnreachableError
from dcao_proto.problem import TYPE_PREFIX, ProblemDetails

# Below uvicorn's default of 5 s: the client drops an idle connection before the server does, so no request meets a
# connection that is just being closed.
IDLE_SECONDS = 4.0


class Reply(NamedTuple):
    """A successful answer."""

    status: int
    body: bytes
    headers: httpx.Headers


class Transport:
    """Blocking requests to one controller. Not thread-safe: it belongs to the session's courier thread.

    Args:
        url: base URL.
        read_api_key: gives the key as it is now; asked again once after a 401 or 403.
        http: a transport for httpx, for tests; real sockets if absent.
    """

    def __init__(
        self, url: str, read_api_key: Callable[[], str | None], *, http: httpx.BaseTransport | None = None
    ) -> None:
        self._read_api_key = read_api_key
        self._api_key = read_api_key()
        limits = httpx.Limits(max_connections=1, keepalive_expiry=IDLE_SECONDS)
        self._client = httpx.Client(base_url=url, transport=http, limits=limits, trust_env=False)

    def send(self, method: str, path: str, body: bytes | None = None, *, timeout: float) -> Reply:
        """One request.

        Args:
            method: HTTP method.
            path: absolute path.
            body: JSON.
            timeout: seconds for each of connecting, sending and waiting for the answer.

        Raises:
            UnreachableError: no answer, a server error, or an answer to try again later.
            RefusedError: any other problem.
        """
        reply = self._send_once(method, path, body, timeout)
        if reply.status_code in (401, 403):
            fresh = self._read_api_key()
            if fresh != self._api_key:
                self._api_key = fresh
                reply = self._send_once(method, path, body, timeout)
        if reply.is_success:
            return Reply(reply.status_code, reply.content, reply.headers)
        raise _failure(reply)

    def _send_once(self, method: str, path: str, body: bytes | None, timeout: float) -> httpx.Response:
        headers = {"content-type": "application/json"} if body is not None else {}
        if self._api_key:
            headers["authorization"] = f"Bearer {self._api_key}"
        try:
            return self._client.request(method, path, content=body, headers=headers, timeout=timeout)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise UnreachableError(f"{method} {path}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


def _failure(reply: httpx.Response) -> UnreachableError | RefusedError:
    slug, detail, retryable = _problem(reply)
    if retryable or reply.status_code >= 500:
        return UnreachableError(f"{reply.status_code} {slug}: {detail}", _seconds(reply.headers.get("retry-after")))
    return RefusedError(slug, reply.status_code, detail)


def _problem(reply: httpx.Response) -> tuple[str, str, bool]:
    try:
        problem = ProblemDetails.model_validate_json(reply.content)
    except ValidationError:  # a proxy's page, or not a controller at all
        return "unexpected-answer", f"expected a problem document, got {reply.headers.get('content-type')}", False
    return problem.type.removeprefix(TYPE_PREFIX), problem.detail, problem.retryable


def _seconds(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
