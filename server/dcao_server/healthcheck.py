"""Answers one question for a container engine: does the controller in this container serve?

`python -m dcao_server.healthcheck` asks `GET /healthz` on `DCAO_PORT` and exits 0 on a 200, 1 on anything else, with
the reason on standard error. It needs nothing but the standard library, so an image needs neither curl nor a shell.

It does not ask `/readyz`: a controller without Redis still answers workers that echo their state, and a liveness
check that fails with the store would restart every replica at once, just when they are needed.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping

TIMEOUT_SECONDS = 1.5
"""Below the 2 s that the image's HEALTHCHECK grants, so the reason is printed before the engine gives up."""

DEFAULT_PORT = 8000
"""`Settings.port`'s default, written out: importing it would import pydantic into every check. A test compares."""

_LOOPBACK_OF = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, never bound to


def address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Where the controller of this environment can be asked, as host and port (1–65535).

    A controller on every interface is asked on the loopback one of the same family.

    Raises:
        ValueError: `DCAO_PORT` is not a port.
    """
    host = environ.get("DCAO_HOST", "")
    text = environ.get("DCAO_PORT", str(DEFAULT_PORT))
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"expected DCAO_PORT to be a port from 1 to 65535, got {text!r}; correct or unset it")
    host = host.strip().removeprefix("[").removesuffix("]")
    return _LOOPBACK_OF.get(host, host), int(text)


def check(host: str, port: int, timeout: float = TIMEOUT_SECONDS) -> str | None:
    """`None` when `GET /healthz` answers 200 within `timeout` seconds, else the reason in words."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}/healthz"
    try:
        connection.request("GET", "/healthz", headers={"Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"expected an answer from {where}, got {error!r}; see the controller's log"
    finally:
        connection.close()
    if status != 200:
        return f"expected 200 from {where}, got {status}; see the controller's log"
    return None


def main() -> int:
    """The exit code: 0 serves, 1 does not."""
    try:
        reason = check(*address(os.environ))
    except ValueError as error:
        reason = str(error)
    if reason is None:
        return 0
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
