"""Which errors of SQLite mean that its file cannot be used, and why, rather than that we are wrong."""

import errno
import sqlite3

from dcao_server.store.contract import StoreUnavailableError
from dcao_server.store.sqlite_schema import NewerSchemaError
from dcao_server.store.trouble import TroubleKind, trouble

FAILURES = (sqlite3.DatabaseError, OSError, NewerSchemaError)
_BY_CODE = {
    sqlite3.SQLITE_BUSY: TroubleKind.LOCKED,
    sqlite3.SQLITE_LOCKED: TroubleKind.LOCKED,
    sqlite3.SQLITE_FULL: TroubleKind.FULL,
    sqlite3.SQLITE_READONLY: TroubleKind.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: TroubleKind.PERMISSION,
    sqlite3.SQLITE_PERM: TroubleKind.PERMISSION,
    sqlite3.SQLITE_CORRUPT: TroubleKind.CORRUPT,
    sqlite3.SQLITE_NOTADB: TroubleKind.CORRUPT,
    sqlite3.SQLITE_IOERR: TroubleKind.OTHER,
}
_BY_ERRNO = {
    errno.ENOSPC: TroubleKind.FULL,
    errno.EDQUOT: TroubleKind.FULL,
    errno.EROFS: TroubleKind.READ_ONLY,
    errno.EACCES: TroubleKind.PERMISSION,
    errno.EPERM: TroubleKind.PERMISSION,
}
_OURS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.NotSupportedError)
_PRIMARY = 0xFF
"""The low byte of an extended code is its kind (https://www.sqlite.org/rescode.html)."""


def away(error: Exception) -> StoreUnavailableError | None:
    """That the file cannot be used now, and why; None for a mistake of ours."""
    if isinstance(error, _OURS):
        return None
    if isinstance(error, NewerSchemaError):
        kind = TroubleKind.SCHEMA
    elif isinstance(error, sqlite3.DatabaseError):
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE  # no room for the log's index
        kind = TroubleKind.FULL if full else _BY_CODE.get(code, TroubleKind.OTHER)
        if code == 0:  # raised by Python's module itself
            return None
    else:
        kind = _BY_ERRNO.get(getattr(error, "errno", 0) or 0, TroubleKind.UNREACHABLE)
    return StoreUnavailableError(trouble(kind, error))
