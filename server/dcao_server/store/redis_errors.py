"""Which errors of redis-py mean that the store is away, rather than that we are wrong."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from redis import exceptions

from dcao_server.store.contract import StoreUnavailableError

P = ParamSpec("P")
T = TypeVar("T")

_AWAY = (
    exceptions.ConnectionError,  # refused, reset, closed, pool exhausted, loading, no master known to the Sentinels
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,  # we still talk to a replica after a failover
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
    exceptions.RedisClusterException,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
    OSError,
    TimeoutError,
)
_AWAY_PREFIXES = (
    "MISCONF",
    "NOREPLICAS",
    "MASTERDOWN",
    "UNBLOCKED",
    "BUSY",
    "TRYAGAIN",
    "OOM",
    "READONLY",
    "NOAUTH",
    "LOADING",
    "CLUSTERDOWN",
    "NOPERM",
    "WRONGPASS",
)


def away(error: Exception) -> StoreUnavailableError | None:
    """What an error of redis-py or of its connection means to us: that the store is away, or None."""
    if (
        isinstance(error, _AWAY)
        # uvloop's word for a connection that was reset while redis-py kept it.
        or (isinstance(error, RuntimeError) and "closed" in str(error))
        or (isinstance(error, exceptions.ResponseError) and str(error).startswith(_AWAY_PREFIXES))
    ):
        return StoreUnavailableError(f"Redis cannot be used now: {error!r}")
    return None


def guarded(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turns redis-py's many words for "not now" into StoreUnavailableError."""

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except Exception as error:
            unavailable = away(error)
            if unavailable is None:
                raise
            raise unavailable from error

    return call
