"""Is what lies in the store what a controller wrote? A foreign program, half a backup or a bug may have been there.

One run that is not sound is the trouble of that run: who asks for it hears so, and collections pass over it.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar, get_args

import structlog

from dcao_proto.message import MAX_ATTEMPT, MAX_COUNT, NAME_PATTERN
from dcao_server.store.contract import AttemptStart, Head, RunKey, StoredRun, StoredStatus, StoreUnavailableError
from dcao_server.store.trouble import MOST_TEXT, Trouble, TroubleKind

T = TypeVar("T")

_log = structlog.get_logger("dcao.store")
_STATUSES = frozenset(get_args(StoredStatus))
_NAME = re.compile(NAME_PATTERN)
MOST_REASON = 128
"""Characters; of `ShortText` on the wire."""
MOST_SECONDS = 2.0**40
"""After the epoch: in 35,000 years."""


def foreign(key: RunKey, fault: object) -> StoreUnavailableError:
    """What lies there for a run is none of ours; `fault` is for the log."""
    return StoreUnavailableError(Trouble(TroubleKind.FOREIGN, f"{key.project}/{key.run}: {fault}"[:MOST_TEXT]))


@contextmanager
def reading(key: RunKey) -> Iterator[None]:
    """Around what takes apart what the store has of a run, and does nothing else: where it raises, that is no run."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise foreign(key, error) from error


def is_name(text: str) -> bool:
    """Whether it can be the name of a run or a project."""
    return _NAME.fullmatch(text) is not None


def sound(run: StoredRun) -> StoredRun:
    """The run, if every field of it is one that a controller writes.

    Raises:
        StoreUnavailableError: of the kind `foreign`.
    """
    checks = (
        ("project", is_name(run.key.project)),
        ("run", is_name(run.key.run)),
        ("status", run.status in _STATUSES),
        ("attempt", 0 <= run.attempt <= MAX_ATTEMPT),
        ("version", 0 <= run.version <= MAX_COUNT),
        ("last step", run.last_step is None or 0 <= run.last_step <= MAX_COUNT),
        ("decisions", 0 <= run.decisions <= MAX_COUNT),
        ("creation", _is_time(run.created_at)),
        ("last write", _is_time(run.updated_at)),
        ("reason", run.reason is None or len(run.reason) <= MOST_REASON),
        ("attempts", all(map(_is_start, run.attempts))),
    )
    for name, holds in checks:
        if not holds:
            raise foreign(run.key, f"expected a {name} that a controller writes, got another")
    return run


def sound_head(key: RunKey, head: Head) -> Head:
    """The head, in the same way."""
    if head.status in _STATUSES and 0 <= head.attempt <= MAX_ATTEMPT and 0 <= head.version <= MAX_COUNT:
        return head
    raise foreign(key, "expected status, attempt and version that a controller writes, got others")


def passing_over(found: Sequence[T | StoreUnavailableError | None]) -> list[T]:
    """Those that are there and sound; of the others the log has each once."""
    for one in found:
        if isinstance(one, StoreUnavailableError):
            say(one.trouble.said)
    return [one for one in found if one is not None and not isinstance(one, StoreUnavailableError)]


@lru_cache(maxsize=1000)
def say(what: str) -> None:
    """Names in the log what is passed over, once."""
    _log.error("passed over", said=what, meaning=TroubleKind.FOREIGN.meaning, fix=TroubleKind.FOREIGN.fix)


def _is_time(seconds: float) -> bool:
    return math.isfinite(seconds) and 0 <= seconds <= MOST_SECONDS


def _is_start(start: AttemptStart) -> bool:
    return 0 <= start.attempt <= MAX_ATTEMPT and 0 <= start.version <= MAX_COUNT and (start.step or 0) >= 0
