"""What is kept and for how long. Redis expires runs by itself; this tidies what expiry leaves, and does it for SQLite.

`dcao-controller gc` calls `collect`; with `dry_run` it tells what it would do.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from dcao_server.store.contract import HistoryStore, RunKey, StoreUnavailableError
from dcao_server.store.trouble import TroubleKind

PAGE = 1000
"""Projects read in one go."""


@dataclass
class Collected:
    """What was removed, or would be."""

    expired: list[RunKey] = field(default_factory=list)
    """Runs deleted because nothing changed in them for the retention time."""
    orphans: list[RunKey] = field(default_factory=list)
    """Index entries whose run had expired."""
    foreign: list[RunKey] = field(default_factory=list)
    """Runs that are not what a controller wrote, and are left as they are."""
    trimmed: dict[RunKey, int] = field(default_factory=dict)
    """Records removed beyond the cap, by run. In a dry run: by how many its current attempt is above it."""


async def collect(
    store: HistoryStore, *, now: float, retention_days: float, max_records: int, dry_run: bool
) -> Collected:
    """Deletes runs that nobody touched for the retention time, trims long histories, tidies the indexes.

    Args:
        store: open.
        now: seconds since the epoch.
        retention_days: days after its last change that a run is kept.
        max_records: newest records kept of each attempt.
        dry_run: change nothing.

    Raises:
        StoreUnavailableError: the store went away; what was done stays done, and may be done again.
    """
    collected = Collected()
    oldest = now - retention_days * 86_400
    async for project in every_project(store):
        for name in await store.index(project):
            key = RunKey(project, name)
            try:
                await _collect_run(store, key, collected, now, oldest, max_records, dry_run=dry_run)
            except StoreUnavailableError as error:
                if error.trouble.kind is not TroubleKind.FOREIGN:
                    raise
                collected.foreign.append(key)
        if not dry_run:
            await store.forget(project, [key.run for key in collected.orphans if key.project == project])
    return collected


async def every_project(store: HistoryStore) -> AsyncIterator[str]:
    """All projects, a page at a time."""
    names = await store.projects("", PAGE)
    while names:
        for name in names:
            yield name
        names = await store.projects(names[-1], PAGE)


async def _collect_run(
    store: HistoryStore,
    key: RunKey,
    collected: Collected,
    now: float,
    oldest: float,
    max_records: int,
    *,
    dry_run: bool,
) -> None:
    run = await store.get(key)
    if run is None:
        collected.orphans.append(key)
    elif run.updated_at < oldest:
        collected.expired.append(key)
        if not dry_run:
            await store.delete(key, now)
    else:
        over = max(0, run.decisions - max_records)
        removed = over if dry_run else await store.prune(key, max_records)
        if removed:
            collected.trimmed[key] = removed
