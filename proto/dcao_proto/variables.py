"""Every environment variable that either side reads, and which of those that are set must be one of them mistyped.

Both sides need both lists: `DCAO_API_KEYS_FILE` is the controller's, and no mistake where the client runs.
"""

from collections.abc import Iterable
from difflib import get_close_matches

PREFIX = "DCAO_"
CONTROLLER = frozenset(
    (
        "ACCESS_LOG", "ALLOWED_HOSTS", "API_KEYS_FILE", "API_KEYS_IN_REDIS", "API_KEYS_REFRESH_SECONDS",
        "AUDIT_MAX", "BACKFILL_BODY_LIMIT", "BODY_LIMIT", "BODY_SECONDS", "DATA", "DRAIN_SECONDS",
        "FORWARDED_ALLOW_IPS", "HEADER_LIMIT", "HEADER_SECONDS", "HOST", "KEEP_ALIVE_SECONDS", "LOG_FORMAT",
        "LOG_LEVEL", "MAX_CONNECTIONS", "MAX_RECORDS", "METRICS_PORT", "PORT", "PROTECT_METRICS", "RATE_BURST",
        "RATE_LIMIT", "REDIS_CA_FILE", "REDIS_CERT_FILE", "REDIS_KEY_FILE", "REDIS_MAX_CONNECTIONS",
        "REDIS_PASSWORD", "REDIS_PASSWORD_FILE", "REDIS_TIMEOUT_SECONDS", "REDIS_URL", "REDIS_URL_FILE",
        "REDIS_USERNAME", "RETENTION_DAYS", "RUN_METRICS_MAX", "RUN_METRICS_WINDOW_SECONDS", "SHUTDOWN_SECONDS",
        "STALE_FACTOR", "STALE_FLOOR_SECONDS", "TRACING",
    )
)  # fmt: skip
CLIENT = frozenset(
    (
        "API_KEY", "API_KEY_FILE", "CA_FILE", "DEADLINE", "ENABLED", "JOURNAL", "JOURNAL_DIR", "JOURNAL_MAX_MIB",
        "PROJECT", "PROXY", "RUN", "TRUST", "URL",
    )
)  # fmt: skip
ALIKE = 0.86  # of difflib's ratio; what is further away is somebody else's, a compose file's for example


def mistyped(names: Iterable[str]) -> dict[str, str]:
    """The variables that nobody reads, each with the one that must have been meant.

    Args:
        names: of environment variables, those of others included.

    Example:
        >>> mistyped(["DCAO_ULR", "DCAO_URL", "DCAO_API_KEY_FILES", "DCAO_GREETING", "PATH"])
        {'DCAO_ULR': 'DCAO_URL', 'DCAO_API_KEY_FILES': 'DCAO_API_KEY_FILE'}
    """
    known = [PREFIX + name for name in sorted(CLIENT | CONTROLLER)]
    found = {}
    for name in names:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            for meant in get_close_matches(name.upper(), known, n=1, cutoff=ALIKE):
                found[name] = meant
    return found
