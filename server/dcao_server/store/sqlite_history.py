"""Histories in SQLite: functions of a connection, each within the caller's transaction.

They follow the Lua scripts line by line; the contract suite and the stateful tests hold both to one model.
"""

import sqlite3
import time
from typing import NamedTuple, cast

from dcao_proto.message import MAX_COUNT, successor
from dcao_server.store.contract import (
    ENDED,
    Append,
    AppendResult,
    Backfill,
    BackfillOutcome,
    Contribution,
    Gathering,
    Head,
    Outcome,
    Position,
    RunKey,
    StoredRecord,
    StoredStatus,
)
from dcao_server.store.sound import foreign, sound_head

SLICE = 2000
"""Records removed in one transaction: 5 ms for which other writers wait."""
PRUNE_EVERY = 256
"""Decisions between two looks at the cap, so that an append stays one insert."""


class _Row(NamedTuple):
    id: int
    digest: str
    attempt: int
    version: int
    state: str
    status: str
    last_step: int | None
    decisions: int


def _row(database: sqlite3.Connection, key: RunKey) -> _Row | None:
    row = database.execute(
        "SELECT id, digest, attempt, version, state, status, last_step, decisions"
        " FROM runs WHERE project = ? AND run = ?",
        key,
    ).fetchone()
    if row is None:
        return None
    run = _Row(*row)
    sound_head(key, Head(run.attempt, run.version, run.state, cast(StoredStatus, run.status)))
    if not -1 <= (run.last_step or 0) <= MAX_COUNT:
        raise foreign(key, "expected a last step that a controller writes, got another")
    return run


def _payload(database: sqlite3.Connection, run_id: int, attempt: int, step: int) -> bytes | None:
    row = database.execute(
        "SELECT payload FROM records WHERE run_id = ? AND attempt = ? AND step = ?", (run_id, attempt, step)
    ).fetchone()
    return None if row is None else row[0]


def append(database: sqlite3.Connection, key: RunKey, item: Append, max_records: int) -> AppendResult:
    """Appends one decision, or returns the one that stands."""
    run = _row(database, key)
    if run is None:
        return AppendResult(Outcome.MISSING)
    if run.digest != item.digest:
        return AppendResult(Outcome.OTHER_SPEC)
    if item.attempt < run.attempt:
        return AppendResult(Outcome.FENCED, run.attempt)
    unheard = item.attempt > run.attempt
    last = None if unheard else run.last_step
    if last is not None and item.step <= last:
        payload = _payload(database, run.id, item.attempt, item.step)
        if payload is None:
            return AppendResult(Outcome.STALE, run.version, last)
        return AppendResult(Outcome.REPLAYED, run.version, last, run.state, payload)
    if run.status in ENDED:
        return AppendResult(Outcome.ENDED, run.version, last)
    if not unheard and run.version > item.version:
        return AppendResult(Outcome.CONFLICT, run.version, last, run.state)
    # Writes may have been lost, but each decision takes a step: a count further ahead is not this run's.
    if not unheard and item.version - run.version > item.step - (-1 if last is None else last):
        return AppendResult(Outcome.IMPLAUSIBLE, run.version, last)

    _insert(database, key, run.id, item)
    if unheard:
        _adopt(database, run.id, item.attempt, item.version)
    database.execute(
        "UPDATE runs SET version = ?, last_step = ?, state = ?, updated_at = ?, status = 'active',"
        " decisions = decisions + 1 WHERE id = ?",
        (successor(item.version), item.step, item.state, item.now, run.id),
    )
    if run.decisions >= max_records and run.decisions % PRUNE_EVERY == 0:
        _trim(database, run.id, item.attempt, max_records)
    if unheard or run.version < item.version:
        return AppendResult(Outcome.HEALED, successor(item.version), last)
    return AppendResult(Outcome.APPENDED, successor(item.version), item.step, item.state)


def _insert(database: sqlite3.Connection, key: RunKey, run_id: int, item: Append) -> None:
    try:
        database.execute("INSERT INTO records VALUES (?, ?, ?, ?)", (run_id, item.attempt, item.step, item.payload))
    except sqlite3.IntegrityError:
        raise foreign(key, f"expected no record after the newest step, got one at step {item.step}") from None


def _adopt(database: sqlite3.Connection, run_id: int, attempt: int, version: int) -> None:
    """An attempt that this store has not heard of begins with its first record."""
    database.execute("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, NULL)", (run_id, attempt, version))
    database.execute(
        "UPDATE runs SET attempt = ?, start_state = NULL, start_version = NULL, last_step = NULL, decisions = 0"
        " WHERE id = ?",
        (attempt, run_id),
    )


def _trim(database: sqlite3.Connection, run_id: int, attempt: int, max_records: int) -> int:
    edge = database.execute(
        "SELECT step FROM records WHERE run_id = ? AND attempt = ? ORDER BY step DESC LIMIT 1 OFFSET ?",
        (run_id, attempt, max_records - 1),
    ).fetchone()
    if edge is None:
        return 0
    removed = database.execute(
        "DELETE FROM records WHERE (run_id, attempt, step) IN (SELECT run_id, attempt, step FROM records"
        " WHERE run_id = ? AND attempt = ? AND step < ? ORDER BY step LIMIT ?)",
        (run_id, attempt, edge[0], SLICE),
    ).rowcount
    database.execute(
        "UPDATE runs SET decisions = decisions - ? WHERE id = ? AND attempt = ?", (removed, run_id, attempt)
    )
    return removed


def gather(database: sqlite3.Connection, key: RunKey, item: Contribution) -> Gathering:
    """Adds one worker's observation of a step and says whether they suffice."""
    run = _row(database, key)
    if run is None:
        return Gathering(Outcome.MISSING)
    if run.digest != item.digest:
        return Gathering(Outcome.OTHER_SPEC)
    if item.attempt < run.attempt:
        return Gathering(Outcome.FENCED, run.attempt)
    last = run.last_step if item.attempt == run.attempt else None
    if last is not None and item.step <= last:
        payload = _payload(database, run.id, item.attempt, item.step)
        if payload is None:
            return Gathering(Outcome.STALE, run.version, last)
        return Gathering(Outcome.REPLAYED, run.version, last, run.state, payload)
    if run.status in ENDED:
        return Gathering(Outcome.ENDED, run.version, last)

    now = time.time()
    place = (run.id, item.attempt, item.step)
    database.execute("DELETE FROM gatherings WHERE run_id = ? AND (attempt, step) < (?, ?)", place)
    count, first = _gathered(database, place)
    if count < item.most:
        count += database.execute(
            "INSERT OR IGNORE INTO gatherings VALUES (?, ?, ?, ?, ?, ?)", (*place, item.worker, item.observation, now)
        ).rowcount
    if count < item.quorum and now - (first or now) < item.quorum_seconds:
        return Gathering(Outcome.PENDING, run.version, last, run.state)
    observations = database.execute(
        "SELECT worker, observation FROM gatherings WHERE run_id = ? AND attempt = ? AND step = ? ORDER BY worker",
        place,
    ).fetchall()
    return Gathering(Outcome.READY, run.version, last, run.state, observations=tuple(observations))


def _gathered(database: sqlite3.Connection, place: tuple[int, int, int]) -> tuple[int, float | None]:
    """How many observations of a step are there, and when the first came. The observations stay on their pages."""
    sql = "SELECT COUNT(*), MIN(arrived) FROM gatherings WHERE run_id = ? AND attempt = ? AND step = ?"
    count, first = database.execute(sql, place).fetchone()
    return count, first


def backfill(database: sqlite3.Connection, key: RunKey, batch: Backfill, max_records: int) -> BackfillOutcome:
    """Puts decisions made elsewhere into an attempt's history."""
    run = _row(database, key)
    if run is None:
        return BackfillOutcome(Outcome.MISSING)
    if run.digest != batch.digest:
        return BackfillOutcome(Outcome.OTHER_SPEC)
    if batch.attempt < run.attempt:
        return BackfillOutcome(Outcome.FENCED)
    version, last = run.version, run.last_step
    if batch.attempt > run.attempt:
        _adopt(database, run.id, batch.attempt, max(0, batch.version - len(batch.entries)))
        version, last = -1, None
    stored = 0
    for step, payload in batch.entries:
        stored += database.execute(
            "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?)", (run.id, batch.attempt, step, payload)
        ).rowcount
        last = step if last is None else max(last, step)
    state = run.state
    if batch.version > version:
        version, state = batch.version, batch.state
    database.execute(
        "UPDATE runs SET version = ?, state = ?, last_step = ?, updated_at = ?, decisions = decisions + ?,"
        " status = CASE status WHEN 'created' THEN 'active' ELSE status END WHERE id = ?",
        (version, state, last, batch.now, stored, run.id),
    )
    if run.decisions + stored > max_records:
        _trim(database, run.id, batch.attempt, max_records)
    return BackfillOutcome(Outcome.APPENDED, stored, len(batch.entries) - stored, version, last)


def read(database: sqlite3.Connection, key: RunKey, after: Position, limit: int) -> list[StoredRecord]:
    """Records after a position."""
    rows = database.execute(
        "SELECT attempt, step, payload FROM records WHERE run_id = (SELECT id FROM runs WHERE project = ? AND run = ?)"
        " AND (attempt, step) > (?, ?) ORDER BY attempt, step LIMIT ?",
        (*key, *after, limit),
    ).fetchall()
    return [StoredRecord(*row) for row in rows]


def prune(database: sqlite3.Connection, key: RunKey, max_records: int) -> int:
    """Trims an attempt's history towards its newest records, by a slice; 0 when there is none to trim."""
    run = _row(database, key)
    if run is None:
        return 0
    attempts = database.execute("SELECT attempt FROM attempts WHERE run_id = ?", (run.id,)).fetchall()
    return next((n for (attempt,) in attempts if (n := _trim(database, run.id, attempt, max_records))), 0)
