"""The one file: shared by processes, and whole after a kill −9."""

import subprocess
import sys
from pathlib import Path

import pytest

from dcao_server.store import sqlite_history, sqlite_runs
from dcao_server.store.contract import START, Backfill, Creation, Outcome, RunKey, StoreUnavailableError
from dcao_server.store.sqlite_history import SLICE
from dcao_server.store.sqlite_store import SqliteStore
from tests.server.store.opening import DIGEST, KEY, creation, item, sqlite_store

WRITER = f"""
import asyncio, sys
from pathlib import Path
from dcao_server.store.contract import Append, Outcome, RunKey
from dcao_server.store.sqlite_store import SqliteStore

async def write(writer, last):
    store = SqliteStore(Path(sys.argv[1]) / "history.sqlite3", max_records=10**6)
    await store.open()
    version, counts = 0, {{}}
    for step in range(last):
        while True:
            item = Append(1, step, version, {DIGEST!r}, f"{{step}} by {{writer}}".encode(), f"s{{version + 1}}", 1.0)
            result = await store.append(RunKey{tuple(KEY)!r}, item)
            version = max(version, result.version)
            if result.outcome is not Outcome.CONFLICT:
                break
        print(step, result.outcome.name, (result.payload or item.payload).decode(), flush=True)
    await store.close()

asyncio.run(write(sys.argv[2], int(sys.argv[3])))
"""


def start(folder: Path, writer: int, steps: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(folder), str(writer), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_processes_that_share_the_file_decide_each_step_once(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    await store.create(KEY, creation())
    writers = [start(tmp_path, number, 50) for number in range(8)]
    lines = [line.split(" ", 2) for writer in writers for line in writer.communicate(timeout=120)[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0] * 8
    outcomes = [outcome for _, outcome, _ in lines]
    assert (outcomes.count("APPENDED"), outcomes.count("REPLAYED"), len(outcomes)) == (50, 350, 400)
    stored = {record.step: record.payload.decode() for record in await store.read(KEY, START, 100)}
    assert sorted(stored) == list(range(50))
    assert all(stored[int(step)] == payload for step, _, payload in lines)
    await store.close()


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    await store.create(KEY, creation())
    await store.close()
    writer = start(tmp_path, 1, 10**6)
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline() for _ in range(200)]
    writer.kill()
    acknowledged += writer.stdout.read().splitlines()
    writer.wait()
    writer.stdout.close()
    again = sqlite_store(tmp_path)
    await again.open()
    stored = [record.step for record in await again.read(KEY, START, 10**6)]
    assert len(stored) >= len([line for line in acknowledged if "APPENDED" in line]) - 1  # the last line may be cut
    assert stored == list(range(len(stored)))
    assert (await again.append(KEY, item(stored[-1] + 1, len(stored)))).outcome is Outcome.APPENDED
    await again.close()


async def test_a_file_that_cannot_be_made_is_a_store_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    store = sqlite_store(tmp_path / "taken")
    await store.open()  # a store that cannot be used yet is no error; the calls after say so
    with pytest.raises(StoreUnavailableError, match="the store"):
        await store.ping()
    await store.close()


async def test_what_is_deleted_is_gone_at_once_and_removed_in_slices(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.sqlite3", max_records=1_000_000)
    await store.open()
    try:
        key = RunKey("vision", "long")
        await store.create(key, Creation("spec", "digest", "state", 1.0))
        steps = tuple((step, b"x") for step in range(3 * SLICE + 10))
        await store.backfill(key, Backfill(1, "digest", steps, len(steps), "state", 2.0))
        run_id = await store._write(sqlite_runs.hide, key, 3.0)
        assert run_id is not None
        assert await store.get(key) is None
        assert await store.projects("", 10) == []
        assert await store.read(key, START, 10) == []
        assert await store.create(key, Creation("spec", "digest", "state", 4.0), restore=True) is None
        removed = [await store._write(sqlite_runs.remove_hidden) for _ in range(5)]
        assert removed == [SLICE, SLICE, SLICE, 11, 0]
    finally:
        await store.close()


async def test_histories_are_trimmed_in_slices(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.sqlite3", max_records=1_000_000)
    await store.open()
    try:
        key = RunKey("vision", "long")
        await store.create(key, Creation("spec", "digest", "state", 1.0))
        steps = tuple((step, b"x") for step in range(2 * SLICE + 100))
        await store.backfill(key, Backfill(1, "digest", steps, len(steps), "state", 2.0))
        assert await store._write(sqlite_history.prune, key, 100) == SLICE
        assert await store.prune(key, 100) == SLICE
        assert (await store.read(key, START, 10))[0].step == 2 * SLICE
    finally:
        await store.close()
