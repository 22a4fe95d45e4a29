"""Where runs and their histories are kept: a contract, Redis, and one SQLite file."""

from dcao_server.settings import Settings, SettingsError
from dcao_server.store.contract import HistoryStore

SQLITE_FILE = "history.sqlite3"


def create_store(settings: Settings) -> HistoryStore:
    """The store that the settings ask for: Redis if there is a URL, else one SQLite file in the data folder.

    Raises:
        ValueError: the URL is not one of a Redis.
        SettingsError: a newer controller has written the SQLite file.
    """
    if settings.redis_url is None:
        from dcao_server.store.sqlite_schema import NewerSchemaError, check_schema
        from dcao_server.store.sqlite_store import SqliteStore

        try:
            check_schema(settings.data / SQLITE_FILE)
        except NewerSchemaError as error:
            raise SettingsError(str(error)) from error
        return SqliteStore(settings.data / SQLITE_FILE, max_records=settings.max_records)
    from dcao_server.store.redis_connection import connect, open_lane
    from dcao_server.store.redis_store import RedisStore

    return RedisStore(
        connect(settings),
        connect(settings, blocking=True),
        open_lane(settings),
        open_lane(settings),
        retention_seconds=round(settings.retention_days * 86_400),
        max_records=settings.max_records,
    )
