"""Keeps web pages out: a browser is on this machine, and so may be a controller that asks nobody for a key.

A page of any origin can send a POST without a body or with a text (`no-cors`), and by DNS rebinding it can make its own
name point to 127.0.0.1, after which it reads answers too. The browser tells both: the first by `Origin` and
`Sec-Fetch-Site`, which a page cannot set, the second by `Host`.
"""

from collections.abc import Iterable, Mapping

from dcao_proto.problem import ProblemError, ProblemKind
from dcao_server.settings import LOOPBACK, Settings

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({b"same-origin", b"none"})
MOST_KNOWN = 256


class Doors:
    """Which names a request may call the controller by, and which pages may change something.

    Names count while there are no API keys, or when names are configured: a page that must know a key to do anything
    gains nothing by another name.
    """

    def __init__(self, settings: Settings) -> None:
        configured = frozenset(name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip())
        self._configured = configured
        self._names: frozenset[str] | None = None
        if configured or not settings.keys_wanted:
            self._names = frozenset({*LOOPBACK, "[::1]", *configured})
        self._known: set[bytes] = set()

    def check(
        self, method: str, version: str, headers: Iterable[tuple[bytes, bytes]], named: Mapping[bytes, bytes]
    ) -> None:
        """Nothing, for a request that may come in.

        Args:
            method: HTTP method in capitals.
            version: of HTTP; 1.0 knows no Host.
            headers: all of them, names in lower case.
            named: the same by name.

        Raises:
            ProblemError: malformed, if there is not one Host or more than one Authorization; forbidden, by another
                name or from another page.
        """
        hosts = sum(name == b"host" for name, _ in headers)
        if hosts > 1 or (hosts == 0 and version != "1.0"):
            raise ProblemError(ProblemKind.MALFORMED, f"expected one Host header, got {hosts or 'none'}")
        keys = sum(name == b"authorization" for name, _ in headers)
        if keys > 1:  # a proxy may have judged by another of them than we would
            raise ProblemError(ProblemKind.MALFORMED, f"expected one Authorization header, got {keys}")
        host = named.get(b"host")
        if host is not None:
            self.check_host(host)
        if method not in _SAFE:
            self._check_page(host, named)

    def check_host(self, host: bytes) -> None:
        """Nothing, for a name that this controller goes by.

        Raises:
            ProblemError: forbidden.
        """
        if self._names is None or host in self._known:
            return
        name = host_name(host)
        if name not in self._names:
            raise ProblemError(
                ProblemKind.FORBIDDEN,
                f"expected one of {', '.join(sorted(self._names))} as Host, got '{name[:100]}'; ask by one of these, "
                "or add the name to DCAO_ALLOWED_HOSTS",
            )
        if len(self._known) < MOST_KNOWN:
            self._known.add(host)

    def _check_page(self, host: bytes | None, named: Mapping[bytes, bytes]) -> None:
        site, origin = named.get(b"sec-fetch-site"), named.get(b"origin")
        other_site = site is not None and site.lower() not in _OWN_SITES
        if other_site or (origin is not None and not self._own(origin, host)):
            raise ProblemError(
                ProblemKind.FORBIDDEN,
                "expected a request of the controller's own page or of a program, got one that a browser sent for "
                "another page; if that page is yours, serve it under the same name and port",
            )

    def _own(self, origin: bytes, host: bytes | None) -> bool:
        """The scheme may differ: a proxy in front may speak TLS."""
        authority = origin.lower().partition(b"://")[2]
        return bool(authority) and (
            (host is not None and authority == host.lower()) or host_name(authority) in self._configured
        )


def host_name(host: bytes) -> str:
    """The name in a Host header, without the port, in lower case."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.rpartition(":")[0] if text.rpartition(":")[2].isdecimal() and ":" in text else text
