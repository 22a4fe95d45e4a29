"""The one SQLite file: tables, and how it is opened."""

import contextlib
import sqlite3
from pathlib import Path

BUSY_SECONDS = 0.1
"""How long a writer waits in the store's thread for another process that writes to the same file; decisions wait behind
it. What is no decision tries again meanwhile, without keeping the thread."""
VERSION = 1
"""Of the schema."""


ADDED = """
CREATE TABLE IF NOT EXISTS annotations (
    run_id INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    text TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;
"""
"""What an older controller need not know of: the schema's version stays, so that one can go back."""


class NewerSchemaError(Exception):
    """A newer controller has written the file."""


SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    run TEXT NOT NULL,
    spec TEXT NOT NULL,
    digest TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    start_state TEXT,              -- what the current attempt started from; NULL if its beginning was not told
    start_version INTEGER,
    last_step INTEGER,
    decisions INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    UNIQUE (project, run)
) STRICT;
CREATE INDEX IF NOT EXISTS runs_by_creation ON runs (project, created_at, run);
CREATE INDEX IF NOT EXISTS runs_by_update ON runs (updated_at);
CREATE TABLE IF NOT EXISTS attempts (
    run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    version INTEGER NOT NULL,
    step INTEGER,
    PRIMARY KEY (run_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (run_id, attempt, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gatherings (
    run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    worker TEXT NOT NULL,
    observation BLOB NOT NULL,
    arrived REAL NOT NULL,
    PRIMARY KEY (run_id, attempt, step, worker)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (
    run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tombstones (
    project TEXT NOT NULL,
    run TEXT NOT NULL,
    gone REAL NOT NULL,
    PRIMARY KEY (project, run)
) STRICT, WITHOUT ROWID;
"""


def open_database(path: Path) -> sqlite3.Connection:
    """A connection to the file, made if it is absent, with the schema in it.

    Write-ahead log and `synchronous=NORMAL`: a commit survives the death of the process at once, and that of the
    machine up to the last checkpoint of the log.

    Raises:
        sqlite3.DatabaseError: the folder or file cannot be used.
        NewerSchemaError: a newer controller has written the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
    database.text_factory = _text
    try:
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise NewerSchemaError(f"expected schema {VERSION} or an older one in {path}, got {found}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA foreign_keys = ON")
        database.executescript(ADDED if found == VERSION else SCHEMA + ADDED)
        if found < VERSION:
            database.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def _text(stored: bytes) -> str:
    """What is no UTF-8 was not written by a controller, and must not hide the rows beside it."""
    return stored.decode(errors="replace")


def touch(database: sqlite3.Connection) -> None:
    """Writes the schema's version as it is, and reads a page of the table that everything begins with."""
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("SELECT id FROM runs LIMIT 1").fetchone()


def check_schema(path: Path) -> None:
    """Nothing, if this controller can use the file or make it; looked at before anything serves.

    Raises:
        NewerSchemaError: a newer controller has written it.
    """
    if not path.exists():
        return
    with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(path)) as database:
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise NewerSchemaError(
                f"expected a history of schema {VERSION} or an older one in {path}, got {found}, which a newer "
                "controller wrote; start that version again, or name another folder in DCAO_DATA"
            )
