"""Which errors of redis-py mean that the store cannot be used, and why, rather than that we are wrong."""

import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import hiredis
from redis import exceptions

from dcao_server.store.contract import StoreUnavailableError
from dcao_server.store.trouble import TroubleKind, trouble

P = ParamSpec("P")
T = TypeVar("T")

_BY_CLASS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], TroubleKind], ...] = (
    (socket.gaierror, TroubleKind.NAME),
    (ssl.SSLError, TroubleKind.TLS),
    ((exceptions.InvalidResponse, hiredis.ProtocolError), TroubleKind.TLS),  # what answers does not speak Redis
    ((exceptions.AuthenticationError, exceptions.AuthenticationWrongNumberOfArgsError), TroubleKind.AUTH),
    ((exceptions.NoPermissionError, exceptions.AuthorizationError), TroubleKind.PERMISSION),
    (exceptions.AskError, TroubleKind.CLUSTER),  # MOVED is one: a client that knows clusters keeps them to itself
    (exceptions.ReadOnlyError, TroubleKind.READ_ONLY),  # we still talk to a replica after a failover, or always did
    (exceptions.OutOfMemoryError, TroubleKind.FULL),
    ((exceptions.BusyLoadingError, exceptions.ClusterDownError, exceptions.TryAgainError), TroubleKind.LOADING),
    ((exceptions.TimeoutError, TimeoutError), TroubleKind.TIMEOUT),
)
_BY_TEXT: tuple[tuple[str, TroubleKind], ...] = (
    ("running in protected mode", TroubleKind.PROTECTED),  # before "no password is set", which it says too
    ("WRONGPASS", TroubleKind.AUTH),
    ("NOAUTH", TroubleKind.AUTH),
    ("invalid username-password pair", TroubleKind.AUTH),
    ("invalid password", TroubleKind.AUTH),
    ("without any password configured", TroubleKind.AUTH),
    ("no password is set", TroubleKind.AUTH),
    ("Authentication required", TroubleKind.AUTH),
    ("unauthenticated", TroubleKind.AUTH),  # a request of many parts, before a password was asked for
    ("NOPERM", TroubleKind.PERMISSION),
    ("No permissions", TroubleKind.PERMISSION),
    ("user executing the script", TroubleKind.PERMISSION),
    ("unknown command", TroubleKind.PERMISSION),  # renamed away
    ("max number of clients", TroubleKind.CLIENTS),
    ("MOVED ", TroubleKind.CLUSTER),
    ("ASK ", TroubleKind.CLUSTER),
    ("WRONGTYPE", TroubleKind.FOREIGN),
    ("FOREIGN ", TroubleKind.FOREIGN),  # our scripts' own word
    ("equal or smaller than the target stream", TroubleKind.FOREIGN),  # somebody has written into a history
    ("stream has exhausted the last possible ID", TroubleKind.FOREIGN),
    ("hash value is not an integer", TroubleKind.FOREIGN),
    ("increment or decrement would overflow", TroubleKind.FOREIGN),
    ("READONLY", TroubleKind.READ_ONLY),
    ("OOM", TroubleKind.FULL),
    ("MISCONF", TroubleKind.FULL),
    ("DB index is out of range", TroubleKind.DATABASE),
    ("invalid DB index", TroubleKind.DATABASE),
    ("SELECT is not allowed in cluster mode", TroubleKind.DATABASE),
    ("CERTIFICATE_VERIFY_FAILED", TroubleKind.TLS),
    ("SSL:", TroubleKind.TLS),
    ("Name or service not known", TroubleKind.NAME),
    ("Temporary failure in name resolution", TroubleKind.NAME),
    ("No address associated", TroubleKind.NAME),
    ("LOADING", TroubleKind.LOADING),
    ("BUSY", TroubleKind.LOADING),
    ("MASTERDOWN", TroubleKind.LOADING),
    ("CLUSTERDOWN", TroubleKind.LOADING),
    ("TRYAGAIN", TroubleKind.LOADING),
    ("UNBLOCKED", TroubleKind.LOADING),
    ("NOREPLICAS", TroubleKind.LOADING),
)
_OURS = ("attempt to", "wrong number of arguments", "syntax error", "Error compiling script")
"""In an answer that says that we are wrong; everything else that Redis answers is its refusal."""
_AWAY = (exceptions.ConnectionError, exceptions.RedisClusterException, OSError)


def away(error: Exception) -> StoreUnavailableError | None:
    """What an error of redis-py or of its connection means to us: that the store cannot be used, and why, or None."""
    kind = _kind(error)
    return None if kind is None else StoreUnavailableError(trouble(kind, error))


def is_foreign(error: object) -> bool:
    """Whether this is Redis's refusal of one command because of what somebody else wrote to its key."""
    return isinstance(error, exceptions.ResponseError) and _kind(error) is TroubleKind.FOREIGN


def _kind(error: Exception) -> TroubleKind | None:
    """The first of the error and its causes that says something tells more than what was made of it."""
    for one in reversed(list(_causes(error))):
        for classes, kind in _BY_CLASS:
            if isinstance(one, classes):
                return kind
        if isinstance(one, (exceptions.RedisError, OSError)):
            for words, kind in _BY_TEXT:
                if words in str(one):
                    return kind
    # uvloop's word for a connection that was reset while redis-py kept it is a RuntimeError.
    closed = isinstance(error, RuntimeError) and "closed" in str(error)
    if closed or isinstance(error, _AWAY):
        return TroubleKind.UNREACHABLE
    refused = isinstance(error, exceptions.ResponseError) and not any(words in str(error) for words in _OURS)
    return TroubleKind.OTHER if refused else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(5):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


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
