"""Between Redis's replies and the contract's words."""

from collections.abc import Sequence
from typing import Any, cast

from dcao_server.store.contract import AttemptStart, RunKey, StoredRecord, StoredRun, StoredStatus


def parse_attempts(text: str) -> tuple[AttemptStart, ...]:
    """`attempt:version:step,…` as written by the scripts."""
    starts = []
    for part in text.split(","):
        attempt, version, step = part.split(":")
        starts.append(AttemptStart(int(attempt), int(version), int(step) if step else None))
    return tuple(starts)


FIELDS = ("spec", "dg", "status", "a", "v", "st", "last", "born", "hb", "reason")
"""Of a meta hash, what every reader of a run needs; the starts of its attempts may be long."""


def parse_run(key: RunKey, values: Sequence[bytes | None], decisions: int) -> StoredRun | None:
    """The run in the `FIELDS` of a meta hash, with `atts` behind them or not; None if it is absent or a tombstone."""
    spec, digest, status, attempt, version, state, last, born, heard, reason, *starts = values
    if spec is None or digest is None or status is None or attempt is None:
        return None
    assert version is not None  # noqa: S101  (the scripts write these together)
    assert state is not None  # noqa: S101
    assert born is not None  # noqa: S101
    assert heard is not None  # noqa: S101
    return StoredRun(
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
        attempts=parse_attempts(starts[0].decode()) if starts and starts[0] is not None else (),
    )


def parse_entries(attempt: int, entries: Any) -> list[StoredRecord]:
    """Stream entries as records; the ID is the step. redis-py gives fields as a dict, or as a list of pairs."""
    return [
        StoredRecord(attempt, int(entry_id.split(b"-")[0]), fields[b"d"] if isinstance(fields, dict) else fields[1])
        for entry_id, fields in entries
    ]


def places(reply: list[Any]) -> tuple[int, int | None]:
    """Version, or owning attempt, and last step in a script's reply."""
    version = reply[1] if len(reply) > 1 else 0
    last = reply[2] if len(reply) > 2 else -1
    return version, None if last < 0 else last


def texts(reply: list[Any]) -> tuple[str, bytes]:
    """State and payload in a script's reply."""
    return (reply[3].decode() if len(reply) > 3 else ""), (reply[4] if len(reply) > 4 else b"")
