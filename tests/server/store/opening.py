"""Stores for tests, and short ways to say what goes into them."""

from pathlib import Path

from dcao_server.settings import Settings
from dcao_server.store import create_store
from dcao_server.store.contract import Append, Backfill, Creation, HistoryStore, RunKey

KEY = RunKey("vision", "resnet")
DIGEST = "d" * 32
OTHER_DIGEST = "e" * 32


def redis_store(url: str, **settings: object) -> HistoryStore:
    """A store in a Redis; its timeout is long, so that a busy machine fails no test."""
    return create_store(Settings(redis_url=url, **{"redis_timeout_seconds": 10.0, **settings}))


def sqlite_store(folder: Path, **settings: object) -> HistoryStore:
    """A store in a file."""
    return create_store(Settings(data=folder, **settings))


def creation(
    *, state: str = "s0", now: float = 1000.0, digest: str = DIGEST, attempt: int = 1, version: int = 0
) -> Creation:
    """A run to create."""
    return Creation(spec="spec", digest=digest, state=state, now=now, attempt=attempt, version=version)


def item(
    step: int,
    version: int,
    *,
    attempt: int = 1,
    digest: str = DIGEST,
    payload: bytes | None = None,
    now: float = 2000.0,
) -> Append:
    """A decision to append; its payload and state name its step unless given."""
    return Append(attempt, step, version, digest, payload or b"p%d" % step, f"s{version + 1}", now)


def backfill(*steps: int, version: int, attempt: int = 1, digest: str = DIGEST) -> Backfill:
    """A journal; payloads name their step."""
    return Backfill(attempt, digest, tuple((step, b"b%d" % step) for step in steps), version, f"s{version}", 3000.0)
