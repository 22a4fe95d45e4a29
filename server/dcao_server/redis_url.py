"""What `DCAO_REDIS_URL` may say. Everything in it is used or refused, and nothing of it is ever quoted.

A password that is not escaped tears a URL apart at another place than its writer meant: any part may then hold a piece
of it, so the errors describe what is wrong and leave out what was given.
"""

import re
from urllib.parse import SplitResult, parse_qs, urlsplit

SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
DATABASES = 16_384
"""Above any server's `databases`; a larger number is a mistake (a port, a date) rather than a database."""

_ESCAPE = (
    "if the password holds one of / ? # @ : % [ ], escape it (%2F %3F %23 %40 %3A %25 %5B %5D), or give it in "
    "DCAO_REDIS_PASSWORD or DCAO_REDIS_PASSWORD_FILE"
)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:@\[\]/]+)(?::(\d{1,5}))?")


def split_redis_url(text: str) -> SplitResult:
    """The parts of a URL that is one of `SCHEMES`.

    Raises:
        ValueError: it is not; the text says what was expected and never quotes the URL.
    """
    if text != text.strip() or re.search(r"[\s\x00-\x1f]", text):
        raise ValueError("expected a URL without spaces, tabs or line ends, got some; remove them")
    scheme, found, _ = text.partition("://")
    if not found or scheme not in SCHEMES:
        starts = ", ".join(f"{name}://" for name in SCHEMES)
        got = "no scheme: write redis://HOST:PORT/DATABASE" if not found else "another one"
        raise ValueError(f"expected a URL that starts with one of {starts}; got {got}")
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(f"expected a URL that can be read, got an unmatched bracket; {_ESCAPE}") from None
    if url.fragment or text.endswith("#"):
        raise ValueError(f"expected a URL without '#', got one; {_ESCAPE}")
    if "@" in url.path + url.query and url.scheme != "unix":
        raise ValueError(f"expected '@' before the host only, got one after it; {_ESCAPE}")
    if re.search(r"%(?![0-9A-Fa-f]{2})", url.netloc.rpartition("@")[0]):
        raise ValueError(f"expected '%' and two hexadecimal digits, got a '%' alone; {_ESCAPE}")
    _check_hosts(url)
    _check_path(url)
    _check_query(url)
    database_of(url)
    return url


def database_of(url: SplitResult) -> int:
    """The number of the database: of the path (`redis://host/3`) or of the query (`?db=3`, for every scheme).

    Raises:
        ValueError: it is no number, it is given twice with two values, or a cluster is asked for another than 0.
    """
    named = parse_qs(url.query).get("db", [])
    if url.scheme in ("redis", "rediss") or url.scheme.endswith("+cluster"):
        named += [url.path.strip("/")] if url.path.strip("/") else []
    if not all(re.fullmatch(r"[0-9]{1,5}", text) and int(text) < DATABASES for text in named):
        raise ValueError("expected the number of a database, as in redis://HOST:6379/3, got something else")
    numbers = set(map(int, named))
    if len(numbers) > 1:
        raise ValueError("expected one database, got two, in the path and in ?db=; remove one")
    number = numbers.pop() if numbers else 0
    if number and url.scheme.endswith("+cluster"):
        raise ValueError("expected database 0, because a Redis Cluster has no other, got another; remove it")
    return number


def _check_hosts(url: SplitResult) -> None:
    hosts = url.netloc.rpartition("@")[2]
    if url.scheme == "unix":
        if hosts:
            raise ValueError("expected unix:///PATH/OF/SOCKET with three slashes, got two")
        return
    several = "+" in url.scheme
    for host in hosts.split(",") if several else [hosts]:
        match = _HOST.fullmatch(host)
        if "," in host:
            raise ValueError("expected one host, got several; write redis+cluster:// or redis+sentinel:// for those")
        if match is None or not 0 < int(match[1] or 1) < 65_536:
            raise ValueError(f"expected HOST:PORT with a port from 1 to 65535, got something else; {_ESCAPE}")


def _check_path(url: SplitResult) -> None:
    if url.scheme == "unix" and not url.path.strip("/"):
        raise ValueError("expected unix:///PATH/OF/SOCKET, got no path")
    if url.scheme.endswith("+sentinel") and not re.fullmatch(r"/[^/]+/?", url.path):
        raise ValueError("expected redis+sentinel://HOST:PORT,HOST:PORT/SERVICE, got no name of a service or several")


def _check_query(url: SplitResult) -> None:
    known = {"db"}
    if url.scheme.endswith("+sentinel"):
        known |= {"sentinel_username", "sentinel_password"}
    try:
        words = parse_qs(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
    except ValueError:
        raise ValueError(f"expected NAME=VALUE after '?', got something else; {_ESCAPE}") from None
    if set(words) - known:
        raise ValueError(
            f"expected nothing but {', '.join(sorted(known))} after '?', got another word; timeouts, certificates and "
            f"the size of the pool are settings of their own (DCAO_REDIS_…); {_ESCAPE}"
        )
    if any(len(values) > 1 or not values[0] for values in words.values()):
        raise ValueError("expected each word after '?' once and with a value, got one twice or empty")
