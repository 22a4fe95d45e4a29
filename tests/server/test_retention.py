"""What is kept and for how long."""

from pathlib import Path

from dcao_server.retention import collect
from dcao_server.runs.status import status_of
from dcao_server.store.contract import START, HistoryStore, RunKey, StoredRun
from tests.components.redis_server import RedisServer
from tests.server.store.opening import creation, item, redis_store, sqlite_store

DAY = 86_400.0


async def filled(store: HistoryStore) -> HistoryStore:
    await store.open()
    for name, day in [("old", 1), ("new", 100)]:
        key = RunKey("vision", name)
        await store.create(key, creation(now=day * DAY))
        for version in range(500):
            await store.append(key, item(version, version, now=day * DAY))
    return store


async def test_a_dry_run_tells_and_changes_nothing(tmp_path: Path) -> None:
    store = await filled(sqlite_store(tmp_path))
    told = await collect(store, now=101 * DAY, retention_days=30, max_records=100, dry_run=True)
    assert told.expired == [RunKey("vision", "old")]
    assert told.trimmed == {RunKey("vision", "new"): 400}
    assert await store.index("vision") == ["new", "old"]
    assert len(await store.read(RunKey("vision", "new"), START, 1000)) == 500
    done = await collect(store, now=101 * DAY, retention_days=30, max_records=100, dry_run=False)
    assert done == told
    assert await store.index("vision") == ["new"]
    assert [r.step for r in await store.read(RunKey("vision", "new"), START, 1000)] == list(range(400, 500))
    again = await collect(store, now=101 * DAY, retention_days=30, max_records=100, dry_run=False)
    assert (again.expired, again.orphans, again.trimmed) == ([], [], {})
    await store.close()


async def test_redis_forgets_by_itself_and_the_index_is_tidied(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.flushall()
        store = await filled(redis_store(redis_server.url, retention_days=30))
        lifetimes = {key: client.ttl(key) for key in client.keys("dcao:1:{vision/*}:[mh]*")}
        assert len(lifetimes) == 4
        assert all(29 * DAY < lifetime <= 30 * DAY for lifetime in lifetimes.values())
        client.delete("dcao:1:{vision/old}:meta", "dcao:1:{vision/old}:h:1")  # as if it had expired
        collected = await collect(store, now=101 * DAY, retention_days=30, max_records=10**6, dry_run=False)
        assert collected.orphans == [RunKey("vision", "old")]
        assert await store.index("vision") == ["new"]
    await store.close()


async def test_an_append_keeps_the_history_under_its_cap(redis_server: RedisServer, tmp_path: Path) -> None:
    for store in (redis_store(redis_server.url, max_records=100), sqlite_store(tmp_path, max_records=100)):
        await store.open()
        key = RunKey("vision", "capped")
        await store.delete(key, 1.0)
        await store.create(key, creation())
        for version in range(1500):
            await store.append(key, item(version, version))
        kept = await store.read(key, START, 10_000)
        assert 100 <= len(kept) <= 400
        assert kept[-1].step == 1499
        await store.close()


def run(*, status: str = "active", version: int = 10, created: float = 0.0, updated: float = 1000.0) -> StoredRun:
    return StoredRun(
        RunKey("p", "r"),
        "spec",
        "digest",
        status,
        1,
        version,
        "state",
        1,
        created,
        updated,
        version,
        None,
        (),  # type: ignore[arg-type]
    )


def test_a_run_is_stale_after_missed_observations() -> None:
    """One observation every 100 s; three missed."""
    assert status_of(run(), 1299.0, factor=3, floor=60) == "active"
    assert status_of(run(), 1301.0, factor=3, floor=60) == "stale"


def test_no_run_is_stale_before_the_floor() -> None:
    quick = run(version=1000)
    assert status_of(quick, 1059.0, factor=3, floor=60) == "active"
    assert status_of(quick, 1061.0, factor=3, floor=60) == "stale"


def test_only_active_runs_get_stale() -> None:
    for status in ("created", "finished", "failed"):
        assert status_of(run(status=status), 1e9, factor=3, floor=60) == status
