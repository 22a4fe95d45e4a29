"""The sockets that a controller listens on, bound before anything else starts: a port in use is one line."""

import errno
import os
import socket
from typing import Any

from dcao_server.settings import Settings, SettingsError

BACKLOG = 2048
ANY_V6 = "::"
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def open_doors(settings: Settings) -> tuple[Settings, list[socket.socket]]:
    """Binds what the settings ask for; returns them with the number of the metrics' port, which 0 left open.

    Raises:
        SettingsError: as `listeners`; nothing is bound then.
    """
    sockets = listeners(settings.host, settings.port)
    if settings.metrics_port is None:
        return settings, sockets
    try:
        for_metrics = listeners(settings.host, settings.metrics_port, "DCAO_METRICS_PORT")
    except SettingsError:
        for bound in sockets:
            bound.close()
        raise
    number = for_metrics[0].getsockname()[1]
    return settings.model_copy(update={"metrics_port": number}), sockets + for_metrics


def listeners(host: str, port: int, variable: str = "DCAO_PORT") -> list[socket.socket]:
    """Sockets bound to every address of `host`, all on one port.

    `::` takes IPv4 too (mapped addresses), whatever the system's `bindv6only` says: "every address" is what people
    mean by it, and what a health check on 127.0.0.1 relies on.

    Args:
        host: address or name.
        port: 0 takes a free one.
        variable: setting that the port comes from, for the error.

    Raises:
        SettingsError: the name has no address, it is none of this machine, or the port is taken or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SettingsError(
            f"expected DCAO_HOST to be an address of this machine, got {host!r}, a name without one; correct it"
        ) from None
    sockets: list[socket.socket] = []
    refused: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        taken = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_bound(family, (address[0], taken, *address[2:]), dual=host == ANY_V6))
        except OSError as error:
            refused = error
            if error.errno not in _NOT_HERE:
                break
    # A name may have an address that this machine lacks (::1 where IPv6 is off), as long as it has another.
    if refused is not None and (not sockets or refused.errno not in _NOT_HERE):
        for bound in sockets:
            bound.close()
        raise SettingsError(_refused(refused, host, port, variable))
    return sockets


def _bound(family: int, address: tuple[Any, ...], *, dual: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        bound.bind(address)
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def _refused(error: OSError, host: str, port: int, variable: str) -> str:
    where = f"port {port} of {host}"
    if error.errno == errno.EADDRINUSE:
        return f"expected {where} to be free, another process has it; stop that one or set {variable} to another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"expected to be allowed to take {where}, the system refuses; set {variable} to one above 1023"
    if error.errno in _NOT_HERE:
        return f"expected DCAO_HOST to be an address of this machine, got {host!r}, which is none; correct it"
    return f"expected to listen on {where}, got {os.strerror(error.errno or 0)}; correct DCAO_HOST or {variable}"
