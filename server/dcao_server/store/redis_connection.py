"""A connection pool to a Redis, a Redis Cluster, or whatever master its Sentinels name."""

import ssl
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from dcao_server.redis_url import database_of, split_redis_url
from dcao_server.settings import Settings
from dcao_server.store.redis_lane import Address, Lane, LaneOptions

BLOCK_SECONDS = 0.5
"""How long one XREAD waits for news; a new follower waits as long at most."""


def connect(settings: Settings, *, blocking: bool = False) -> Any:
    """A client; nothing is sent yet.

    redis-py repeats a call only when its connection turns out to be closed; else a request's time is its deadline's,
    and every script may be repeated by whoever called us.

    Args:
        settings: URL, user, password, certificates, timeout in seconds, pool size.
        blocking: for the one connection that waits for news: its timeout is longer than it waits.

    Raises:
        ValueError: the URL's scheme or its parts are not as the documentation of `DCAO_REDIS_URL` says.
    """
    url = _url(settings)
    options = _options(settings, url, blocking=blocking)
    if url.scheme.endswith("+cluster"):
        return _cluster(url, options)
    if url.scheme.endswith("+sentinel"):
        return _sentinel(url, options)
    return _single(url, options)


def open_lane(settings: Settings) -> Lane | None:
    """A connection that calls share; None for a cluster, where every run may be on another node."""
    url = _url(settings)
    if url.scheme.endswith("+cluster"):
        return None
    options = _options(settings, url, blocking=False)
    sentinels: Any = None
    if url.scheme.endswith("+sentinel"):
        sentinels, service, database = _sentinels(url, options)

        async def resolve() -> Address:
            return Address(*await sentinels.discover_master(service))

    else:
        fixed = (
            Address(path=url.path) if url.scheme == "unix" else Address(url.hostname or "localhost", url.port or 6379)
        )
        database = database_of(url)

        async def resolve() -> Address:
            return fixed

    tls = _tls(settings) if url.scheme.startswith("rediss") else None
    credentials = options.get("username"), options.get("password")

    async def let_go() -> None:
        await _release_sentinels(sentinels)

    return Lane(LaneOptions(resolve, let_go, *credentials, database, tls, settings.redis_timeout_seconds))


async def release(client: Any) -> None:
    """Closes a client's connections, those to its Sentinels too, which redis-py leaves open."""
    await client.aclose()
    await _release_sentinels(getattr(getattr(client, "connection_pool", None), "sentinel_manager", None))


async def _release_sentinels(sentinels: Any) -> None:
    for sentinel in sentinels.sentinels if sentinels is not None else ():
        await sentinel.aclose()


def _tls(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.redis_ca_file)
    if settings.redis_cert_file is not None:
        context.load_cert_chain(settings.redis_cert_file, settings.redis_key_file)
    return context


def _url(settings: Settings) -> SplitResult:
    assert settings.redis_url is not None  # noqa: S101  (the caller has looked)
    return split_redis_url(settings.redis_url.get_secret_value())


def _options(settings: Settings, url: SplitResult, *, blocking: bool) -> dict[str, Any]:
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    timeout = settings.redis_timeout_seconds
    options: dict[str, Any] = {
        "username": unquote(url.username) if url.username else settings.redis_username,
        "password": unquote(url.password) if url.password else password,
        "socket_timeout": timeout + BLOCK_SECONDS if blocking else timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "max_connections": 4 if blocking else settings.redis_max_connections,
        # Once, at once, on a fresh connection: a pooled one may have been closed since (restart, timeout, kill).
        # Every call may be repeated. Not after a timeout, which has used up what the caller can wait.
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    }
    if url.scheme.startswith("rediss"):
        options |= {
            "ssl": True,
            "ssl_ca_certs": None if settings.redis_ca_file is None else str(settings.redis_ca_file),
            "ssl_certfile": None if settings.redis_cert_file is None else str(settings.redis_cert_file),
            "ssl_keyfile": None if settings.redis_key_file is None else str(settings.redis_key_file),
        }
    return {name: value for name, value in options.items() if value is not None}


def _single(url: SplitResult, options: dict[str, Any]) -> Any:
    if url.scheme == "unix":
        options = {name: value for name, value in options.items() if name != "socket_keepalive"}
        options |= {"connection_class": UnixDomainSocketConnection, "path": url.path, "db": database_of(url)}
    else:
        options |= {"host": url.hostname or "localhost", "port": url.port or 6379, "db": database_of(url)}
    if options.pop("ssl", False):
        options["connection_class"] = SSLConnection
    # More requests than connections wait their turn, as long as an answer may take; they are not refused.
    return Redis.from_pool(BlockingConnectionPool(timeout=options["socket_timeout"], **options))


def _hosts(url: SplitResult, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for part in url.netloc.rpartition("@")[2].split(","):
        host, _, port = part.rpartition(":") if not part.endswith("]") and ":" in part else (part, "", "")
        hosts.append((host.strip("[]"), int(port or default_port)))
    return hosts


def _cluster(url: SplitResult, options: dict[str, Any]) -> Any:
    nodes = [ClusterNode(host, port) for host, port in _hosts(url, 6379)]
    options.pop("retry")
    # One retry after a failover: it asks for the new layout first, and what it repeats is idempotent.
    return RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 1), **options)


def _sentinel(url: SplitResult, options: dict[str, Any]) -> Any:
    sentinels, service, database = _sentinels(url, options)
    return sentinels.master_for(service, db=database, **options)


def _sentinels(url: SplitResult, options: dict[str, Any]) -> tuple[Any, str, int]:
    """The Sentinels, the name of the service, the number of the database."""
    service = url.path.strip("/")
    query = parse_qs(url.query)
    # The user and password are the master's; Sentinels that want their own take them from the query.
    own = {name: query[f"sentinel_{name}"][0] for name in ("username", "password") if f"sentinel_{name}" in query}
    shared = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout") if name in options}
    tls = {name: value for name, value in options.items() if name.startswith("ssl")}
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]  # redis-py ships it without annotations
        _hosts(url, 26379), sentinel_kwargs={**shared, **tls, **own}
    )
    return sentinels, service, database_of(url)
