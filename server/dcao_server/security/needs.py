"""What a request needs: everything under /v1 needs a key, and the method and path say which scope in which project.

One table for the whole API, applied before routing: a route that somebody adds later is closed until this table opens
it, which per-route declarations cannot promise.
"""

from typing import NamedTuple

from dcao_proto import paths
from dcao_server.security.keys import EVERY_PROJECT, Scope

_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_READ_VERBS = (":replay",)
"""POSTs that store nothing."""
METRICS = frozenset({paths.METRICS, paths.RUN_METRICS})
ON_METRICS_PORT = METRICS | {paths.HEALTHZ, paths.READYZ}
"""All that the metrics' own port serves."""


class Need(NamedTuple):
    """A scope in a project; with project None, in any project of the key's."""

    scope: Scope
    project: str | None


def need_of(method: str, path: str, *, protect_metrics: bool = True) -> Need | None:
    """The scope that a request needs, or None when everyone may make it.

    Args:
        method: HTTP method in capitals.
        path: decoded path, the same string that is routed.
        protect_metrics: metrics name every project's runs, so they then need `read` on every project.
    """
    if not path.startswith(paths.V1):
        return Need(Scope.READ, EVERY_PROJECT) if protect_metrics and path in METRICS else None
    segments = path.split("/", 4)
    if len(segments) < 4 or segments[2] != "projects":
        return Need(Scope.READ, None)
    project = segments[3]
    if method in _READ_METHODS or path.endswith(_READ_VERBS):
        return Need(Scope.READ, project)
    return Need(Scope.ADMIN if method == "DELETE" else Scope.WRITE, project)
