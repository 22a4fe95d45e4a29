"""Between Redis's replies and the contract's words."""

from collections.abc import Sequence
from typing import Any, cast

from dcao_proto.message import MAX_COUNT
from dcao_server.store.contract import (
    AttemptStart,
    Head,
    RunKey,
    StoredRecord,
    StoredRun,
    StoredStatus,
    StoreUnavailableError,
)
from dcao_server.store.redis_errors import is_foreign
from dcao_server.store.sound import foreign, reading, sound, sound_head


def parse_attempts(text: bytes) -> tuple[AttemptStart, ...]:
    """`attempt:version:step,…` as written by the scripts.

    Raises:
        ValueError: it is something else.
    """
    starts = []
    for part in text.decode().split(","):
        attempt, version, step = part.split(":")
        starts.append(AttemptStart(int(attempt), int(version), int(step) if step else None))
    return tuple(starts)


FIELDS = ("spec", "dg", "status", "a", "v", "st", "last", "born", "hb", "reason", "about")
"""Of a meta hash, what every reader of a run needs; the starts of its attempts may be long."""


def parse_run(key: RunKey, values: Sequence[bytes | None], decisions: int) -> StoredRun | None:
    """The run in the `FIELDS` of a meta hash, with `atts` behind them or not; None if it is absent or a tombstone.

    Raises:
        StoreUnavailableError: of the kind `foreign`; no script wrote this.
    """
    spec, digest, status, attempt, version, state, last, born, heard, reason, about, *starts = cast(
        Sequence[bytes], values
    )
    if digest is None:  # as the scripts see it
        return None
    with reading(key):
        run = StoredRun(
            key=key,
            spec=spec.decode(),
            digest=digest.decode(),
            status=cast(StoredStatus, status.decode()),
            attempt=int(attempt),
            version=int(version),
            state=state.decode(),
            last_step=None if last is None else int(last),
            created_at=float(born),
            updated_at=float(heard),
            decisions=decisions,
            reason=None if reason is None else reason.decode(),
            about="" if about is None else about.decode(),
            attempts=parse_attempts(starts[0]) if starts else (),
        )
    return sound(run)


def parse_head(key: RunKey, values: Sequence[bytes | None]) -> Head | None:
    """What a decision needs of a run; raises as `parse_run`."""
    digest, attempt, version, state, status = cast(Sequence[bytes], values)
    if digest is None:
        return None
    with reading(key):
        head = Head(int(attempt), int(version), state.decode(), cast(StoredStatus, status.decode()))
    return sound_head(key, head)


def refused(key: RunKey, reply: Any) -> StoreUnavailableError | None:
    """That what lies there for a run is none of ours, if Redis said so to one command of several.

    Raises:
        RedisError: it said something else that is no answer.
    """
    if not isinstance(reply, Exception):
        return None
    if is_foreign(reply):
        return foreign(key, reply)
    raise reply


def parse_entries(attempt: int, entries: Any) -> list[StoredRecord]:
    """Stream entries as records; the ID is the step. redis-py gives fields as a dict, or as a list of pairs.

    What no script wrote has an empty payload, which nobody can read: readers leave it out and name it.
    """
    records = []
    for entry_id, fields in entries:
        step, _, number = entry_id.partition(b"-")
        given = fields.get(b"d", b"") if isinstance(fields, dict) else fields[1]
        if int(step) <= MAX_COUNT:  # else there is no cursor for it, and only its like come after it
            records.append(StoredRecord(attempt, int(step), given if number == b"1" else b""))
    return records


def places(reply: list[Any]) -> tuple[int, int | None]:
    """Version, or owning attempt, and last step in a script's reply."""
    version = reply[1] if len(reply) > 1 else 0
    last = reply[2] if len(reply) > 2 else -1
    return version, None if last < 0 else last


def texts(key: RunKey, reply: list[Any]) -> tuple[str, bytes]:
    """State and payload in a script's reply; raises as `parse_run`."""
    with reading(key):
        return (reply[3].decode() if len(reply) > 3 else ""), (reply[4] if len(reply) > 4 else b"")
