"""`dcao-controller gc`, also `dcao gc`: deletes runs past their retention, trims histories beyond their cap."""

import asyncio
import time
from typing import Annotated

import typer
from rich.console import Console

from dcao_server.cli.options import settings_from, stop
from dcao_server.retention import Collected, collect
from dcao_server.settings import Settings
from dcao_server.store import SQLITE_FILE, create_store
from dcao_server.store.contract import StoreUnavailableError
from dcao_server.store.trouble import TroubleKind


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")] = False,
) -> None:
    """Remove runs and records past their retention (DCAO_RETENTION_DAYS, DCAO_MAX_RECORDS) from the store.

    Redis expires runs by itself; a controller may serve meanwhile.
    """
    settings = settings_from()
    history = settings.data / SQLITE_FILE
    if settings.redis_url is None and not history.exists():
        stop(f"expected a history in {history}, got none; set DCAO_DATA to the controller's folder, or DCAO_REDIS_URL")
    try:
        collected = asyncio.run(_collect(settings, dry_run=dry_run))
    except (StoreUnavailableError, ValueError) as error:
        stop(f"expected a store to tidy, got {error}; is DCAO_REDIS_URL or DCAO_DATA right?")
    console, would = Console(highlight=False), "would be " if dry_run else ""
    for key in collected.expired:
        console.print(f"{key.project}/{key.run} {would}deleted: unchanged for {settings.retention_days:g} days")
    for key, records in collected.trimmed.items():
        console.print(f"{key.project}/{key.run} {would}trimmed: {records} records above {settings.max_records}")
    for key in collected.orphans:
        console.print(f"{key.project}/{key.run} {would}dropped from the index: the run has expired")
    for key in collected.foreign:
        console.print(f"{key.project}/{key.run} left: {TroubleKind.FOREIGN.meaning}; delete the run by the API")
    console.print(
        f"{len(collected.expired)} runs, {sum(collected.trimmed.values())} records and {len(collected.orphans)} index "
        f"entries {would}removed"
    )


async def _collect(settings: Settings, *, dry_run: bool) -> Collected:
    store = create_store(settings)
    await store.open()
    try:
        return await collect(
            store,
            now=time.time(),
            retention_days=settings.retention_days,
            max_records=settings.max_records,
            dry_run=dry_run,
        )
    finally:
        await store.close()
