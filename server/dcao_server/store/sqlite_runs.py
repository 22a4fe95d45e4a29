"""Runs in SQLite: functions of a connection, each within the caller's transaction."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from dcao_proto.message import MAX_ATTEMPT
from dcao_server.store.contract import (
    ENDED,
    AttemptStart,
    Creation,
    Head,
    LiveRun,
    Outcome,
    Restart,
    RestartResult,
    RunKey,
    Seen,
    StoredRecord,
    StoredRun,
    StoredStatus,
    StoreUnavailableError,
)
from dcao_server.store.keys import TOMBSTONE_SECONDS
from dcao_server.store.sound import passing_over, sound, sound_head
from dcao_server.store.sqlite_history import SLICE

_COLUMNS = (
    "id, project, run, spec, digest, status, attempt, version, state, last_step, created_at, updated_at, decisions,"
    " reason, (SELECT text FROM annotations WHERE run_id = runs.id)"
)


def _run(database: sqlite3.Connection, row: Any, *, with_attempts: bool = False) -> StoredRun:
    run_id, project, run, *fields, reason, about = row
    spec, digest, status, attempt, version, state, last_step, created_at, updated_at, decisions = fields
    sql = "SELECT attempt, version, step FROM attempts WHERE run_id = ? ORDER BY attempt"
    starts = database.execute(sql, (run_id,)).fetchall() if with_attempts else []
    found = StoredRun(
        key=RunKey(project, run),
        spec=spec,
        digest=digest,
        status=status,
        attempt=attempt,
        version=version,
        state=state,
        last_step=last_step,
        created_at=created_at,
        updated_at=updated_at,
        decisions=decisions,
        reason=reason,
        about=about or "",
        attempts=tuple(AttemptStart(*start) for start in starts),
    )
    return sound(found)


def _runs(database: sqlite3.Connection, rows: Iterable[Any]) -> list[StoredRun]:
    """Those that are sound; the others are named in the log."""

    def read(row: Any) -> StoredRun | StoreUnavailableError:
        try:
            return _run(database, row)
        except StoreUnavailableError as error:
            return error

    return passing_over([read(row) for row in rows])


def get(database: sqlite3.Connection, key: RunKey) -> StoredRun | None:
    """The run, None if there is none."""
    row = database.execute(f"SELECT {_COLUMNS} FROM runs WHERE project = ? AND run = ?", key).fetchone()  # noqa: S608
    return None if row is None else _run(database, row, with_attempts=True)


def head(database: sqlite3.Connection, key: RunKey) -> Head | None:
    """The state in force."""
    row = database.execute(
        "SELECT attempt, version, state, status FROM runs WHERE project = ? AND run = ?", key
    ).fetchone()
    return None if row is None else sound_head(key, Head(*row))


def create(
    database: sqlite3.Connection, key: RunKey, creation: Creation, restore: bool
) -> tuple[StoredRun, bool] | None:
    """The run, and whether it is new; None if it was deleted lately and is not to be restored."""
    run = get(database, key)
    if run is not None:
        return run, False
    since = creation.now - TOMBSTONE_SECONDS
    gone = database.execute(
        "SELECT 1 FROM tombstones WHERE project = ? AND run = ? AND gone > ?", (*key, since)
    ).fetchone()
    if restore and gone is not None:
        return None
    database.execute("DELETE FROM tombstones WHERE project = ? AND run = ?", key)
    cursor = database.execute(
        "INSERT INTO runs (project, run, spec, digest, status, attempt, version, state, start_state, start_version,"
        " created_at, updated_at) VALUES (?, ?, ?, ?, 'created', ?, ?, ?, ?, ?, ?, ?)",
        (
            *key,
            creation.spec,
            creation.digest,
            creation.attempt,
            creation.version,
            creation.state,
            creation.state,
            creation.version,
            creation.now,
            creation.now,
        ),
    )
    database.execute(
        "INSERT INTO attempts VALUES (?, ?, ?, NULL)", (cursor.lastrowid, creation.attempt, creation.version)
    )
    made = get(database, key)
    assert made is not None  # noqa: S101  (the same transaction has just written it)
    return made, True


def page(database: sqlite3.Connection, project: str, after: tuple[float, str] | None, limit: int) -> list[StoredRun]:
    """Runs of a project, newest first."""
    created_at, name = after if after is not None else (float("inf"), "")
    found: list[StoredRun] = []
    while len(found) < limit:
        rows = database.execute(
            f"SELECT {_COLUMNS} FROM runs WHERE project = ? AND (created_at, run) < (?, ?)"  # noqa: S608
            f" AND {_is_name('run')} ORDER BY created_at DESC, run DESC LIMIT ?",
            (project, created_at, name, limit),
        ).fetchall()
        found += _runs(database, rows)
        if len(rows) < limit:
            break
        created_at, name = rows[-1][10], rows[-1][2]
    return found[:limit]


def projects(database: sqlite3.Connection, after: str, limit: int) -> list[str]:
    """Projects with runs, in order of name. Each is found by a jump in the index, however many runs it has."""
    found: list[str] = []
    while len(found) < limit:
        sql = f"SELECT MIN(project) FROM runs WHERE project > ? AND {_is_name('project')}"  # noqa: S608
        (name,) = database.execute(sql, (after,)).fetchone()
        if name is None:
            break
        found.append(name)
        after = name
    return found


def index(database: sqlite3.Connection, project: str) -> list[str]:
    """Names of a project's runs."""
    sql = f"SELECT run FROM runs WHERE project = ? AND {_is_name('run')} ORDER BY run"  # noqa: S608
    return [name for (name,) in database.execute(sql, (project,))]


def _is_name(column: str) -> str:
    """SQL: the deleted have none, and what somebody else wrote may have none."""
    return f"{column} GLOB '[A-Za-z0-9]*' AND {column} NOT GLOB '*[^A-Za-z0-9._-]*'"


def end(
    database: sqlite3.Connection, key: RunKey, status: StoredStatus, reason: str | None, now: float
) -> StoredRun | None:
    """Ends a run; the first end stands."""
    database.execute(
        "UPDATE runs SET status = ?, reason = ?, updated_at = ?"
        " WHERE project = ? AND run = ? AND status NOT IN ('finished', 'failed')",
        (status, reason or None, now, *key),
    )
    return get(database, key)


def annotate(database: sqlite3.Connection, key: RunKey, about: str, now: float) -> StoredRun | None:
    """Takes what people wrote about a run, whole."""
    database.execute(
        "INSERT OR REPLACE INTO annotations SELECT id, ?, ? FROM runs WHERE project = ? AND run = ?", (about, now, *key)
    )
    return get(database, key)


HIDDEN = ":"
"""Project of deleted runs whose rows are not yet removed; no name has a colon."""


def hide(database: sqlite3.Connection, key: RunKey, now: float) -> int | None:
    """Takes a run out of sight and leaves a tombstone; its row, None if there is no such run."""
    found = database.execute("SELECT id FROM runs WHERE project = ? AND run = ?", key).fetchone()
    if found is None:
        return None
    run_id: int = found[0]
    database.execute(
        "UPDATE runs SET project = ?, run = ?, status = 'finished' WHERE id = ?", (HIDDEN, str(run_id), run_id)
    )
    database.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", (*key, now))
    database.execute("DELETE FROM tombstones WHERE gone < ?", (now - TOMBSTONE_SECONDS,))
    return run_id


def remove_hidden(database: sqlite3.Connection) -> int:
    """Removes a slice of what is out of sight; the number of rows, 0 when nothing is left."""
    found = database.execute("SELECT id FROM runs WHERE project = ? LIMIT 1", (HIDDEN,)).fetchone()
    if found is None:
        return 0
    removed = database.execute(
        "DELETE FROM records WHERE (run_id, attempt, step) IN"
        " (SELECT run_id, attempt, step FROM records WHERE run_id = ? LIMIT ?)",
        (*found, SLICE),
    ).rowcount
    if removed < SLICE:
        removed += database.execute("DELETE FROM runs WHERE id = ?", found).rowcount
    return removed


def begin_attempt(database: sqlite3.Connection, key: RunKey, restart: Restart) -> RestartResult:
    """Makes an attempt the one that may write."""
    row = database.execute(
        "SELECT id, digest, attempt, version, state, status, start_state, start_version"
        " FROM runs WHERE project = ? AND run = ?",
        key,
    ).fetchone()
    if row is None:
        return RestartResult(Outcome.MISSING)
    run_id, digest, owner, version, state, status, start_state, start_version = row
    sound_head(key, Head(owner, version, state, status))
    if restart.state is not None and digest != restart.digest:
        return RestartResult(Outcome.OTHER_SPEC)
    attempt = owner + 1 if restart.attempt is None else restart.attempt
    if attempt > MAX_ATTEMPT:
        return RestartResult(Outcome.EXHAUSTED, owner)
    if attempt < owner:
        return RestartResult(Outcome.FENCED, owner)
    if attempt == owner:
        told = (start_state, start_version)
        if start_state is None or (restart.state is not None and told != (restart.state, restart.version)):
            return RestartResult(Outcome.FENCED, owner)
        return RestartResult(Outcome.REPLAYED, owner, start_version, start_state)
    if restart.state is not None and restart.version is not None:
        state, version = restart.state, restart.version
    database.execute(
        "UPDATE runs SET attempt = ?, version = ?, state = ?, start_version = ?, start_state = ?, status = ?,"
        " updated_at = ?, last_step = NULL, decisions = 0, reason = NULL WHERE id = ?",
        (
            attempt,
            version,
            state,
            version,
            state,
            "active" if status in ENDED else status,
            restart.now,
            run_id,
        ),
    )
    database.execute("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?)", (run_id, attempt, version, restart.step))
    return RestartResult(Outcome.APPENDED, attempt, version, state)


def live_ids(database: sqlite3.Connection, since: float, limit: int) -> list[int]:
    """Rows of the runs that observed something since a time and have not ended, newest first."""
    sql = (
        "SELECT id FROM runs WHERE updated_at >= ? AND status = 'active'"
        " ORDER BY updated_at DESC, project DESC, run DESC LIMIT ?"
    )
    return [run_id for (run_id,) in database.execute(sql, (since, limit))]


def live(database: sqlite3.Connection, ids: Sequence[int]) -> list[LiveRun]:
    """Those of some runs that are still active, with their counts and newest record."""
    found = _with_newest(database, "id = ? AND status = 'active'", [(run_id,) for run_id in ids], 1)
    return [(run, newest[0] if newest else None) for run, newest in found]


def look(database: sqlite3.Connection, keys: Sequence[RunKey]) -> list[Seen]:
    """Those of some runs that exist, with their counts and newest two records."""
    return _with_newest(database, "project = ? AND run = ?", keys, 2)


def _with_newest(
    database: sqlite3.Connection, where: str, wanted: Iterable[tuple[Any, ...]], records: int
) -> list[Seen]:
    found: list[Seen] = []
    for values in wanted:
        row = database.execute(f"SELECT {_COLUMNS} FROM runs WHERE {where}", values).fetchone()  # noqa: S608
        runs = [] if row is None else _runs(database, [row])
        if not runs:  # gone, or a row that no controller wrote
            continue
        run_id, (run,) = row[0], runs
        newest = database.execute(
            "SELECT attempt, step, payload FROM records WHERE run_id = ? AND attempt = ? ORDER BY step DESC LIMIT ?",
            (run_id, run.attempt, records),
        ).fetchall()
        counts = dict(database.execute("SELECT name, count FROM counts WHERE run_id = ?", (run_id,)).fetchall())
        found.append((run._replace(counts=counts), tuple(StoredRecord(*record) for record in newest)))
    return found


def changed(
    database: sqlite3.Connection, since: float | None, after: tuple[float, int] | None, limit: int
) -> list[tuple[float, int, str, str]]:
    """The next runs by their last change, newest first: (time, row) to go on after, project and name."""
    updated_at, row = after if after is not None else (float("inf"), 0)
    sql = (
        "SELECT updated_at, id, project, run FROM runs WHERE (updated_at, id) < (?, ?) AND updated_at >= ?"
        " AND project != ? ORDER BY updated_at DESC, id DESC LIMIT ?"
    )
    lowest = float("-inf") if since is None else since
    return database.execute(sql, (updated_at, row, lowest, HIDDEN, limit)).fetchall()


def gone_or_annotated(database: sqlite3.Connection, since: float) -> list[RunKey]:
    """Runs that were deleted, or written about, since a time: neither is in their own time."""
    sql = (
        "SELECT project, run FROM tombstones WHERE gone >= ? UNION ALL"
        " SELECT project, run FROM annotations JOIN runs ON runs.id = run_id WHERE at >= ? AND project != ?"
    )
    return [RunKey(*row) for row in database.execute(sql, (since, since, HIDDEN))]


def count_live(database: sqlite3.Connection, since: float) -> int:
    """How many runs `live` finds without a limit."""
    sql = "SELECT COUNT(*) FROM runs WHERE updated_at >= ? AND status = 'active'"
    found: int = database.execute(sql, (since,)).fetchone()[0]
    return found


def tally(database: sqlite3.Connection, counts: dict[RunKey, Counter[str]]) -> None:
    """Adds counts to those of the runs that still exist."""
    for key, names in counts.items():
        database.executemany(
            "INSERT INTO counts SELECT id, ?, ? FROM runs WHERE project = ? AND run = ?"
            " ON CONFLICT (run_id, name) DO UPDATE SET count = count + excluded.count",
            [(name, count, *key) for name, count in names.items()],
        )
