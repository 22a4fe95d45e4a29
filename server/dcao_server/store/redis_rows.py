"""Between Redis's replies and the contract's words."""

from typing import Any, cast

from dcao_server.store.contract import AttemptStart, RunKey, StoredRecord, StoredRun, StoredStatus


def parse_attempts(text: str) -> tuple[AttemptStart, ...]:
    """`attempt:version:step,…` as written by the scripts."""
    starts = []
    for part in text.split(","):
        attempt, version, step = part.split(":")
        starts.append(AttemptStart(int(attempt), int(version), int(step) if step else None))
    return tuple(starts)


def parse_run(key: RunKey, meta: dict[bytes, bytes], decisions: int) -> StoredRun | None:
    """The run in a meta hash; None if it is absent or a tombstone."""
    if b"dg" not in meta:
        return None
    last, reason = meta.get(b"last"), meta.get(b"reason")
    return StoredRun(
        key=key,
        spec=meta[b"spec"].decode(),
        digest=meta[b"dg"].decode(),
        status=cast(StoredStatus, meta[b"status"].decode()),
        attempt=int(meta[b"a"]),
        version=int(meta[b"v"]),
        state=meta[b"st"].decode(),
        last_step=None if last is None else int(last),
        created_at=float(meta[b"born"]),
        updated_at=float(meta[b"hb"]),
        decisions=decisions,
        reason=None if reason is None else reason.decode(),
        attempts=parse_attempts(meta[b"atts"].decode()),
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
