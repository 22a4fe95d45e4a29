"""Admits a request or refuses it: key, scope, project, rate; and notes refusals in the audit trail."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote_to_bytes

from dcao_proto.problem import ProblemError, ProblemKind
from dcao_server.security.audit import AuditEvent, AuditTrail
from dcao_server.security.keyring import Keyring
from dcao_server.security.keys import EVERY_PROJECT, PREFIX, ApiKey, Scope
from dcao_server.security.needs import ON_METRICS_PORT, Need, need_of
from dcao_server.security.rate import RateLimit

_KEY_IN_TEXT = f"{PREFIX}_".encode()
_KEY_IN_PATH = re.compile(rf"{PREFIX}(?:_|%5[fF])[a-z0-9]{{4,32}}(?:_|%5[fF])[0-9a-f]{{32,}}")
"""A run may be called dcao_something; a key has an id and a secret."""
UNESCAPED = 3
_BEARER = b"bearer "
HOW_TO_MAKE_ONE = "make one with `dcao-controller keys create`"


class Refusal(NamedTuple):
    """Why a request may not go on. `reason` is for the audit trail, `detail` for whoever asked."""

    kind: ProblemKind
    reason: str
    detail: str
    key: str | None = None
    retry_after: int | None = None


class Guard:
    """The one place that says who may do what.

    Args:
        keyring: the keys in force; None where keys are off, which is possible on loopback only.
        rate: limit for each key.
        trail: where refusals are noted.
        protect_metrics: metrics need a key too.
        metrics_port: where they do not, and where nothing else is served; None: there is no such port.
    """

    def __init__(
        self,
        keyring: Keyring | None,
        rate: RateLimit,
        trail: AuditTrail,
        *,
        protect_metrics: bool = True,
        metrics_port: int | None = None,
    ) -> None:
        self._keyring = keyring
        self._rate = rate
        self._protect_metrics = protect_metrics
        self._metrics_port = metrics_port
        self.trail = trail

    @property
    def locked(self) -> bool:
        """Whether requests need keys; if not, only a key in the query string is refused."""
        return self._keyring is not None or self._metrics_port is not None

    async def admit(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], request_id: str) -> ApiKey | None:
        """The key of a request that may go on; None where it needs none.

        Args:
            scope: the ASGI scope.
            headers: its headers, names in lower case.
            request_id: for the audit trail.

        Raises:
            ProblemError: unauthenticated, forbidden, rate-limited, store-unavailable when no key was ever read, or
                not-found when the metrics' own port is asked for anything else.
        """
        if _holds_key(scope["query_string"]) or _KEY_IN_PATH.search(scope["path"]) is not None:
            self._refuse(scope, request_id, _KEY_IN_URL)
        if self._metrics_port is not None and _port_of(scope) == self._metrics_port:
            if scope["path"] not in ON_METRICS_PORT:
                raise ProblemError(ProblemKind.NOT_FOUND, _METRICS_ONLY)
            return None
        if self._keyring is None:
            return None
        need = need_of(scope["method"], scope["path"], protect_metrics=self._protect_metrics)
        if need is None:
            return None
        if self._keyring.due():
            await self._keyring.reload()
        key = self._authenticate(headers.get(b"authorization"), self._keyring)
        refusal = (_forbidden(key, need) or self._too_fast(key)) if isinstance(key, ApiKey) else key
        if refusal is not None:
            self._refuse(scope, request_id, refusal)
        return key if isinstance(key, ApiKey) else None

    async def still(self, key: ApiKey | None, scope: Mapping[str, Any]) -> bool:
        """Whether a request that was let in would be let in again: its key may have been revoked, or have expired."""
        if self._keyring is None or key is None:
            return True
        if self._keyring.due():
            await self._keyring.reload()
        need = need_of(scope["method"], scope["path"], protect_metrics=self._protect_metrics)
        record = self._keyring.in_force(key.id)
        return record is not None and record.sha256 == key.sha256 and (need is None or _forbidden(record, need) is None)

    @staticmethod
    def _authenticate(header: bytes | None, keyring: Keyring) -> ApiKey | Refusal:
        if header is None or header[:7].lower() != _BEARER:
            return _NO_KEY if header is None else _OTHER_SCHEME
        key, reason = keyring.find(header[7:].strip())
        if key is not None:
            return key
        if not keyring.known:
            raise ProblemError(ProblemKind.STORE_UNAVAILABLE, _KEYS_UNREAD, headers={"Retry-After": "1"})
        # One text for unknown, wrong and expired: an attacker learns nothing about which ids exist.
        return Refusal(ProblemKind.UNAUTHENTICATED, reason, _INVALID_KEY)

    def _too_fast(self, key: ApiKey) -> Refusal | None:
        wait = self._rate.wait(key.id)
        if not wait:
            return None
        detail = f"expected fewer requests with the key {key.id}; try again in {wait:.2f} s, or raise DCAO_RATE_LIMIT"
        return Refusal(ProblemKind.RATE_LIMITED, "rate", detail, key.id, int(wait) + 1)

    def _refuse(self, scope: Mapping[str, Any], request_id: str, refusal: Refusal) -> NoReturn:
        self.trail.note(
            AuditEvent(
                event="refused",
                reason=refusal.reason,
                key=refusal.key,
                client=client_of(scope),
                method=scope["method"],
                path=scope["path"],
                status=refusal.kind.status,
                request=request_id,
            )
        )
        headers: dict[str, str] = {}
        if refusal.kind is ProblemKind.UNAUTHENTICATED:
            headers["WWW-Authenticate"] = 'Bearer realm="dcao"'
        if refusal.retry_after is not None:
            headers["Retry-After"] = str(refusal.retry_after)
        raise ProblemError(refusal.kind, refusal.detail, headers=headers)


def _holds_key(text: bytes) -> bool:
    """Whether a key is in a URL's text, as it is or escaped, once or twice."""
    for _ in range(UNESCAPED):
        if _KEY_IN_TEXT in text:
            return True
        if b"%" not in text:
            return False
        text = unquote_to_bytes(text)
    return _KEY_IN_TEXT in text


def client_of(scope: Mapping[str, Any]) -> str:
    """The client's address, as the outermost trusted proxy saw it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _port_of(scope: Mapping[str, Any]) -> int | None:
    """The port that the request came in by: of the connection, so that nobody can claim another."""
    server = scope.get("server")
    return server[1] if server else None


def _forbidden(key: ApiKey, need: Need) -> Refusal | None:
    scope = key.scope_in(need.project)
    if scope >= need.scope:
        return None
    where = "every project" if need.project == EVERY_PROJECT else f"project {need.project}"
    got = f"{Scope(scope).name.lower()} there" if scope else "nothing there"
    detail = f"expected a key with {need.scope.name.lower()} on {where}, the key {key.id} has {got}; use another key"
    return Refusal(ProblemKind.FORBIDDEN, "scope" if scope else "project", f"{detail}, or {HOW_TO_MAKE_ONE}", key.id)


_KEY_IN_URL = Refusal(
    ProblemKind.UNAUTHENTICATED,
    "key-in-query",
    "expected the API key in the Authorization header, got one in the URL, where proxies and browsers keep it: revoke "
    "that key, make another, and send `Authorization: Bearer dcao_…`",
)
_NO_KEY = Refusal(
    ProblemKind.UNAUTHENTICATED,
    "no-key",
    f"expected `Authorization: Bearer dcao_…`, got no Authorization header; {HOW_TO_MAKE_ONE}",
)
_OTHER_SCHEME = Refusal(
    ProblemKind.UNAUTHENTICATED,
    "malformed",
    f"expected `Authorization: Bearer dcao_…`, got an Authorization header of another scheme; {HOW_TO_MAKE_ONE}",
)
_INVALID_KEY = f"expected a valid API key, got one that is unknown, revoked or expired; {HOW_TO_MAKE_ONE}"
_METRICS_ONLY = "expected /metrics, /metrics/runs, /healthz or /readyz on this port, got another path; ask DCAO_PORT"
_KEYS_UNREAD = "expected to check the API key, but the keys could not be read since the start; try again"
