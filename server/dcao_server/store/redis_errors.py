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


def guarded(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turns redis-py's many words for "not now" into StoreUnavailableError."""

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except _AWAY as error:
            raise StoreUnavailableError(f"Redis cannot be used now: {error!r}") from error
        except RuntimeError as error:
            # uvloop's word for a connection that was reset while redis-py kept it.
            if "closed" not in str(error):
                raise
            raise StoreUnavailableError(f"Redis cannot be used now: {error}") from error
        except exceptions.ResponseError as error:
            if str(error).startswith(_AWAY_PREFIXES):
                raise StoreUnavailableError(f"Redis cannot be used now: {error}") from error
            raise

    return call
