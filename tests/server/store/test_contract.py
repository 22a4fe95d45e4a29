"""What every store promises, on every store."""

import asyncio

from dcao_proto.message import MAX_ATTEMPT
from dcao_server.store.contract import START, Contribution, HistoryStore, Outcome, Position, Restart, RunKey
from tests.server.store.opening import DIGEST, KEY, OTHER_DIGEST, backfill, creation, item


async def steps(store: HistoryStore, key: RunKey = KEY) -> list[tuple[int, int]]:
    return [(r.attempt, r.step) for r in await store.read(key, START, 10_000)]


def restart(attempt: int | None = None, state: str | None = None, version: int | None = None) -> Restart:
    return Restart(attempt, None, state, version, DIGEST if state else "", 4000.0)


async def test_an_unknown_run_is_none_and_its_history_is_empty(store: HistoryStore) -> None:
    assert await store.get(KEY) is None
    assert await store.head(KEY) is None
    assert await store.read(KEY, START, 10) == []
    assert (await store.append(KEY, item(1, 0))).outcome is Outcome.MISSING
    assert (await store.backfill(KEY, backfill(1, version=1))).outcome is Outcome.MISSING
    assert (await store.begin_attempt(KEY, restart())).outcome is Outcome.MISSING
    assert await store.end(KEY, "finished", None, 1.0) is None
    assert await store.delete(KEY, 1.0) is False


async def test_a_run_is_created_once_and_then_returned_as_it_is(store: HistoryStore) -> None:
    first = await store.create(KEY, creation())
    again = await store.create(KEY, creation(digest=OTHER_DIGEST, now=5000.0))
    assert first is not None
    assert again is not None
    assert first[1] is True
    assert again[1] is False
    assert again[0] == first[0]
    assert first[0].status == "created"
    assert (first[0].attempt, first[0].version, first[0].state, first[0].last_step) == (1, 0, "s0", None)


async def test_appends_are_read_back_in_order_of_step(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    for version, step in enumerate([0, 5, 7, 2**53 - 1]):
        result = await store.append(KEY, item(step, version))
        assert (result.outcome, result.version) == (Outcome.APPENDED, version + 1)
    records = await store.read(KEY, START, 10)
    assert [(r.attempt, r.step, r.payload) for r in records] == [
        (1, 0, b"p0"),
        (1, 5, b"p5"),
        (1, 7, b"p7"),
        (1, 2**53 - 1, b"p%d" % (2**53 - 1)),
    ]
    run = await store.get(KEY)
    assert run is not None
    assert (run.status, run.version, run.state, run.last_step, run.decisions) == ("active", 4, "s4", 2**53 - 1, 4)
    assert run.updated_at == 2000.0


async def test_a_step_decides_once(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(1, 0, payload=b"first"))
    await store.append(KEY, item(2, 1))
    again = await store.append(KEY, item(1, 0, payload=b"second"))
    assert (again.outcome, again.payload) == (Outcome.REPLAYED, b"first")
    assert (again.version, again.state) == (2, "s2")  # the newest, for the caller to go on from
    assert await steps(store) == [(1, 1), (1, 2)]


async def test_a_caller_that_is_behind_gets_the_state_to_decide_from(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(1, 0))
    behind = await store.append(KEY, item(2, 0))
    assert (behind.outcome, behind.version, behind.state) == (Outcome.CONFLICT, 1, "s1")
    assert await steps(store) == [(1, 1)]


async def test_a_caller_that_is_ahead_heals_the_history(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(1, 0))
    ahead = await store.append(KEY, item(9, 5))
    assert (ahead.outcome, ahead.version, ahead.last_step) == (Outcome.HEALED, 6, 1)
    head = await store.head(KEY)
    assert head is not None
    assert (head.version, head.state) == (6, "s6")


async def test_a_step_that_the_history_has_passed_is_stale(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(5, 0))
    stale = await store.append(KEY, item(4, 1))
    assert (stale.outcome, stale.last_step) == (Outcome.STALE, 5)
    assert await steps(store) == [(1, 5)]


async def test_a_token_of_another_specification_writes_nothing(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    assert (await store.append(KEY, item(1, 0, digest=OTHER_DIGEST))).outcome is Outcome.OTHER_SPEC
    assert (await store.backfill(KEY, backfill(1, version=1, digest=OTHER_DIGEST))).outcome is Outcome.OTHER_SPEC
    assert await steps(store) == []


async def test_a_new_attempt_fences_the_one_before(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(1, 0))
    begun = await store.begin_attempt(KEY, restart())
    assert (begun.outcome, begun.attempt, begun.version, begun.state) == (Outcome.APPENDED, 2, 1, "s1")
    fenced = await store.append(KEY, item(2, 1))
    assert (fenced.outcome, fenced.version) == (Outcome.FENCED, 2)
    assert (await store.backfill(KEY, backfill(2, version=2))).outcome is Outcome.FENCED
    assert (await store.append(KEY, item(1, 1, attempt=2))).outcome is Outcome.APPENDED
    assert await steps(store) == [(1, 1), (2, 1)]
    run = await store.get(KEY)
    assert run is not None
    assert (run.attempt, run.decisions, [s.attempt for s in run.attempts]) == (2, 1, [1, 2])


async def test_an_attempt_is_begun_once_by_its_number(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(1, 0))
    first = await store.begin_attempt(KEY, restart(5, "s0", 0))
    again = await store.begin_attempt(KEY, restart(5, "s0", 0))
    other = await store.begin_attempt(KEY, restart(5, "s1", 1))
    older = await store.begin_attempt(KEY, restart(3))
    assert (first.outcome, first.attempt, first.state) == (Outcome.APPENDED, 5, "s0")
    assert again == first._replace(outcome=Outcome.REPLAYED)
    assert (other.outcome, other.attempt) == (Outcome.FENCED, 5)
    assert (older.outcome, older.attempt) == (Outcome.FENCED, 5)


async def test_an_attempt_that_the_store_never_heard_of_takes_over(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(8, 0))
    taken = await store.append(KEY, item(3, 0, attempt=4))
    assert (taken.outcome, taken.last_step) == (Outcome.HEALED, None)
    assert (await store.append(KEY, item(9, 1))).outcome is Outcome.FENCED
    assert await steps(store) == [(1, 8), (4, 3)]


async def test_the_first_end_stands_and_decisions_stop(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(1, 0))
    ended = await store.end(KEY, "failed", "lost a node", 5000.0)
    again = await store.end(KEY, "finished", None, 6000.0)
    assert ended is not None
    assert (ended.status, ended.reason, ended.updated_at) == ("failed", "lost a node", 5000.0)
    assert again == ended
    assert (await store.append(KEY, item(2, 1))).outcome is Outcome.ENDED
    assert (await store.append(KEY, item(1, 1))).outcome is Outcome.REPLAYED
    assert (await store.backfill(KEY, backfill(2, version=2))).stored == 1
    await store.begin_attempt(KEY, restart())
    run = await store.get(KEY)
    assert run is not None
    assert (run.status, run.reason) == ("active", None)


async def test_a_deleted_run_is_gone_and_does_not_come_back_by_itself(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(1, 0))
    await store.begin_attempt(KEY, restart())
    await store.append(KEY, item(1, 1, attempt=2))
    assert await store.delete(KEY, 5000.0) is True
    assert await store.get(KEY) is None
    assert await steps(store) == []
    assert await store.create(KEY, creation(now=5001.0), restore=True) is None
    anew = await store.create(KEY, creation(now=5002.0))
    assert anew is not None
    assert anew[1] is True
    assert await steps(store) == []


async def test_a_run_that_was_lost_is_restored_where_it_stood(store: HistoryStore) -> None:
    restored = await store.create(KEY, creation(state="s7", attempt=3, version=7), restore=True)
    assert restored is not None
    assert (restored[0].attempt, restored[0].version, restored[0].state) == (3, 7, "s7")
    assert (await store.append(KEY, item(70, 7, attempt=3))).outcome is Outcome.APPENDED


async def test_backfill_goes_where_it_belongs_and_stays_once(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(10, 0))
    await store.append(KEY, item(50, 4))  # healed: 20, 30, 40 were decided elsewhere
    await store.append(KEY, item(60, 5))
    result = await store.backfill(KEY, backfill(10, 20, 30, 40, version=4))
    assert (result.outcome, result.stored, result.replayed) == (Outcome.APPENDED, 3, 1)
    assert (result.version, result.last_step) == (6, 60)
    again = await store.backfill(KEY, backfill(10, 20, 30, 40, version=4))
    assert (again.stored, again.replayed) == (0, 4)
    records = await store.read(KEY, START, 100)
    assert [(r.step, r.payload) for r in records] == [
        (10, b"p10"),
        (20, b"b20"),
        (30, b"b30"),
        (40, b"b40"),
        (50, b"p50"),
        (60, b"p60"),
    ]
    assert (await store.append(KEY, item(70, 6))).outcome is Outcome.APPENDED


async def test_backfill_before_everything_and_after_everything(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(10, 3))
    result = await store.backfill(KEY, backfill(1, 20, version=9))
    assert (result.stored, result.version, result.last_step) == (2, 9, 20)
    assert await steps(store) == [(1, 1), (1, 10), (1, 20)]
    head = await store.head(KEY)
    assert head is not None
    assert (head.version, head.state) == (9, "s9")
    assert (await store.append(KEY, item(21, 9))).outcome is Outcome.APPENDED


async def test_backfill_of_an_unheard_attempt_begins_it(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(10, 0))
    result = await store.backfill(KEY, backfill(3, 6, version=7, attempt=2))
    assert (result.outcome, result.stored, result.version, result.last_step) == (Outcome.APPENDED, 2, 7, 6)
    run = await store.get(KEY)
    assert run is not None
    assert (run.attempt, run.decisions, run.attempts[-1].version) == (2, 2, 5)
    assert await steps(store) == [(1, 10), (2, 3), (2, 6)]


async def test_reading_goes_on_after_a_position_across_attempts(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    for version, step in enumerate([0, 1, 2]):
        await store.append(KEY, item(step, version))
    await store.begin_attempt(KEY, restart())
    await store.append(KEY, item(1, 3, attempt=2))
    everything = [(1, 0), (1, 1), (1, 2), (2, 1)]
    for index, place in enumerate(everything):
        found = await store.read(KEY, Position(*place), 10)
        assert [tuple(r.position) for r in found] == everything[index + 1 :]
    assert [tuple(r.position) for r in await store.read(KEY, Position(1, 0), 2)] == [(1, 1), (1, 2)]
    assert [tuple(r.position) for r in await store.read(KEY, Position(1, 99), 2)] == [(2, 1)]


async def test_runs_are_listed_newest_first_with_ties_by_name(store: HistoryStore) -> None:
    for name, now in [("a", 1.0), ("b", 3.0), ("c", 3.0), ("d", 3.0), ("e", 2.0)]:
        await store.create(RunKey("vision", name), creation(now=now))
    await store.create(RunKey("speech", "z"), creation(now=9.0))
    expected = ["d", "c", "b", "e", "a"]
    assert [run.key.run for run in await store.page("vision", None, 10)] == expected
    seen: list[str] = []
    after = None
    while page := await store.page("vision", after, 2):
        seen += [run.key.run for run in page]
        after = (page[-1].created_at, page[-1].key.run)
    assert seen == expected
    assert await store.projects("", 10) == ["speech", "vision"]
    assert await store.projects("", 1) == ["speech"]
    assert await store.projects("speech", 10) == ["vision"]
    assert await store.projects("vision", 10) == []
    assert await store.index("vision") == ["a", "b", "c", "d", "e"]


async def test_live_runs_come_with_counts_and_newest_record(store: HistoryStore) -> None:
    for name, now in [("a", 100.0), ("b", 300.0), ("c", 200.0)]:
        key = RunKey("vision", name)
        await store.create(key, creation())
        await store.append(key, item(1, 0, now=now))
        await store.append(key, item(2, 1, now=now))
    await store.create(RunKey("vision", "silent"), creation(now=400.0))
    store.tally(RunKey("vision", "b"), ["decided", "clamped:lr"])
    store.tally(RunKey("vision", "b"), ["decided"])
    live = [found async for found in store.live(150.0, 10)]
    assert [(run.key.run, record.step if record else None) for run, record in live] == [("b", 2), ("c", 2)]
    assert dict(live[0][0].counts) == {"decided": 2, "clamped:lr": 1}
    assert [run.key.run async for run, _ in store.live(0.0, 1)] == ["b"]
    assert await store.count_live(150.0) == 2


async def test_a_follower_gets_what_is_there_and_what_comes(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(1, 0))
    await store.append(KEY, item(2, 1))
    seen: list[tuple[int, int]] = []

    async def follow() -> None:
        async for record in store.follow(KEY, Position(1, 1)):
            seen.append((record.attempt, record.step))
            if len(seen) == 4:
                return

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.2)
    assert seen == [(1, 2)]
    await store.append(KEY, item(3, 2))
    await store.append(KEY, item(4, 3))
    await store.begin_attempt(KEY, restart())
    await store.append(KEY, item(1, 4, attempt=2))
    await asyncio.wait_for(task, 10)
    assert seen == [(1, 2), (1, 3), (1, 4), (2, 1)]


async def test_followers_end_when_the_store_closes(store: HistoryStore) -> None:
    await store.create(KEY, creation())

    async def follow() -> int:
        return len([record async for record in store.follow(KEY, START)])

    tasks = [asyncio.create_task(follow()) for _ in range(3)]
    await asyncio.sleep(0.1)
    await store.close()
    assert await asyncio.wait_for(asyncio.gather(*tasks), 5) == [0, 0, 0]


def contribution(
    worker: str, observation: bytes, *, step: int = 10, quorum: int = 2, seconds: float = 60.0, most: int = 4
) -> Contribution:
    return Contribution(1, step, DIGEST, worker, observation, quorum, most, seconds)


async def test_observations_are_gathered_until_they_suffice(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    first = await store.gather(KEY, contribution("w1", b"one"))
    assert (first.outcome, first.version, first.state) == (Outcome.PENDING, 0, "s0")
    again = await store.gather(KEY, contribution("w1", b"changed its mind"))
    assert again.outcome is Outcome.PENDING
    ready = await store.gather(KEY, contribution("w0", b"zero"))
    assert ready.outcome is Outcome.READY
    assert ready.observations == (("w0", b"zero"), ("w1", b"one"))
    await store.append(KEY, item(10, 0))
    late = await store.gather(KEY, contribution("w2", b"two"))
    assert (late.outcome, late.payload, late.version) == (Outcome.REPLAYED, b"p10", 1)


async def test_no_more_are_gathered_than_there_are_workers(store: HistoryStore) -> None:
    """Whatever they call themselves; without a decision that ends it a gathering would grow for ever."""
    await store.create(KEY, creation())
    for index in range(9):
        found = await store.gather(KEY, contribution(f"w{index}", b"x", quorum=3, most=4))
    assert found.outcome is Outcome.READY
    assert [worker for worker, _ in found.observations] == ["w0", "w1", "w2", "w3"]


async def test_what_is_there_suffices_after_the_quorum_time(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    assert (await store.gather(KEY, contribution("w1", b"one", seconds=0.05))).outcome is Outcome.PENDING
    await asyncio.sleep(0.1)
    ready = await store.gather(KEY, contribution("w1", b"one", seconds=0.05))
    assert (ready.outcome, ready.observations) == (Outcome.READY, (("w1", b"one"),))


async def test_gathering_knows_fences_ends_and_strangers(store: HistoryStore) -> None:
    assert (await store.gather(KEY, contribution("w1", b"one"))).outcome is Outcome.MISSING
    await store.create(KEY, creation(digest=OTHER_DIGEST))
    assert (await store.gather(KEY, contribution("w1", b"one"))).outcome is Outcome.OTHER_SPEC
    other = RunKey("vision", "other")
    await store.create(other, creation())
    await store.append(other, item(20, 0))
    assert (await store.gather(other, contribution("w1", b"one"))).outcome is Outcome.STALE
    await store.end(other, "finished", None, 1.0)
    assert (await store.gather(other, contribution("w1", b"one", step=30))).outcome is Outcome.ENDED
    await store.begin_attempt(other, restart())
    fenced = await store.gather(other, contribution("w1", b"one", step=30))
    assert (fenced.outcome, fenced.version) == (Outcome.FENCED, 2)


async def test_racing_writers_decide_each_step_once(store: HistoryStore) -> None:
    """8 writers × 50 steps: exactly 50 appends, 350 replays, and every writer sees the same payload for a step."""
    await store.create(KEY, creation())
    outcomes: list[Outcome] = []
    payloads: dict[int, set[bytes]] = {}

    async def write(writer: int) -> None:
        version = 0
        for step in range(50):
            own = b"%d by %d" % (step, writer)
            while True:
                result = await store.append(KEY, item(step, version, payload=own))
                version = max(version, result.version)
                if result.outcome is not Outcome.CONFLICT:
                    break
            outcomes.append(result.outcome)
            payloads.setdefault(step, set()).add(result.payload or own)

    await asyncio.gather(*(write(n) for n in range(8)))
    assert outcomes.count(Outcome.APPENDED) == 50
    assert outcomes.count(Outcome.REPLAYED) == 350
    assert all(len(found) == 1 for found in payloads.values())
    assert await steps(store) == [(1, step) for step in range(50)]


async def test_pruning_keeps_about_the_newest(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    for version in range(600):
        await store.append(KEY, item(version, version))
    removed = await store.prune(KEY, 100)
    left = await steps(store)
    assert removed == 600 - len(left)
    assert 100 <= len(left) < 300  # Redis trims whole nodes
    assert left[-1] == (1, 599)
    assert (await store.append(KEY, item(0, 600))).outcome is Outcome.STALE
    await store.forget("vision", ["no such run"])


async def test_what_was_gathered_for_a_deleted_run_is_not_the_new_ones(store: HistoryStore) -> None:
    await store.create(KEY, creation(now=1.0))
    await store.gather(KEY, contribution("w0", b"of the old run"))
    await store.delete(KEY, 2.0)
    await store.create(KEY, creation(now=3.0))
    assert (await store.gather(KEY, contribution("w1", b"one"))).outcome is Outcome.PENDING
    ready = await store.gather(KEY, contribution("w2", b"two"))
    assert ready.observations == (("w1", b"one"), ("w2", b"two"))


async def test_the_largest_version_stays_one_that_the_wire_can_carry(store: HistoryStore) -> None:
    largest = 2**53 - 1
    await store.create(KEY, creation()._replace(version=largest))
    assert (await store.append(KEY, item(1, largest))).version == largest
    assert (await store.append(KEY, item(2, largest))).version == largest
    run = await store.get(KEY)
    assert run is not None
    assert run.version == largest


async def test_a_version_ahead_by_more_decisions_than_steps_is_not_this_runs(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    assert (await store.append(KEY, item(10, 0))).outcome is Outcome.APPENDED
    for version in (13, 2**40, 2**53 - 2):
        assert (await store.append(KEY, item(20 if version > 13 else 12, version))).outcome is Outcome.IMPLAUSIBLE
    assert (await store.append(KEY, item(13, 3))).outcome is Outcome.HEALED
    assert [record.step for record in await store.read(KEY, START, 10)] == [10, 13]


async def test_a_run_of_many_attempts_is_read_like_any_other(store: HistoryStore) -> None:
    """Most of them never decided anything; the records of those that did come in order, and no listing names them."""
    await store.create(KEY, creation())
    wanted = []
    for attempt in range(2, 1200):
        assert (await store.begin_attempt(KEY, restart())).attempt == attempt
        if attempt % 250 == 0:
            await store.append(KEY, item(attempt, len(wanted), attempt=attempt))
            wanted.append((attempt, attempt))
    assert await steps(store) == wanted
    run = await store.get(KEY)
    assert run is not None
    assert [start.attempt for start in run.attempts] == list(range(1, 1200))
    (listed,) = await store.page(KEY.project, None, 10)
    assert (listed.attempt, listed.attempts) == (1199, ())


async def test_the_last_attempt_has_no_next(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    last = await store.begin_attempt(KEY, restart(MAX_ATTEMPT))
    assert (last.outcome, last.attempt) == (Outcome.APPENDED, MAX_ATTEMPT)
    assert (await store.begin_attempt(KEY, restart())).outcome is Outcome.EXHAUSTED
    assert (await store.begin_attempt(KEY, restart(MAX_ATTEMPT))).outcome is Outcome.REPLAYED


async def changed(store: HistoryStore, since: float | None) -> set[str]:
    return {key.run async for some in store.changed(since) for key in some}


async def test_what_has_changed_since_a_time_is_named_with_what_is_gone(store: HistoryStore) -> None:
    for name, now in (
        ("old", 1000.0),
        ("observed", 1100.0),
        ("ended", 1200.0),
        ("restarted", 1300.0),
        ("gone", 1400.0),
    ):
        await store.create(RunKey("vision", name), creation(now=now))
    await store.create(RunKey("language", "new"), creation(now=2600.0))
    await store.append(RunKey("vision", "observed"), item(1, 0, now=2500.0))
    await store.end(RunKey("vision", "ended"), "finished", None, 2501.0)
    await store.begin_attempt(RunKey("vision", "restarted"), Restart(None, None, None, None, "", 2502.0))
    await store.delete(RunKey("vision", "gone"), 2503.0)
    assert await changed(store, 2500.0) == {"observed", "ended", "restarted", "gone", "new"}
    assert await changed(store, 2601.0) == set()
    everything = await changed(store, None)
    assert {"old", "observed", "ended", "restarted", "new"} <= everything


async def test_runs_that_are_looked_at_come_with_their_newest_record_ended_or_not(store: HistoryStore) -> None:
    names = ("young", "active", "ended", "restarted")
    keys = [RunKey("vision", name) for name in names]
    for key in keys:
        await store.create(key, creation())
    for key in keys[1:]:
        await store.append(key, item(1, 0))
        await store.append(key, item(7, 1))
    await store.end(keys[2], "failed", "lost", 5000.0)
    await store.begin_attempt(keys[3], restart())
    found = await store.look([*keys, RunKey("vision", "none"), RunKey("other", "active")])
    assert list(found) == keys
    newest = {key.run: records for key, (_, records) in found.items()}
    assert newest["young"] == ()
    assert newest["restarted"] == ()
    for name in ("active", "ended"):
        assert [tuple(record) for record in newest[name]] == [(1, 7, b"p7"), (1, 1, b"p1")]
    assert found[keys[2]][0].status == "failed"


async def test_more_runs_than_are_named_at_once_are_all_named(store: HistoryStore) -> None:
    for index in range(450):
        await store.create(RunKey("vision", f"run{index}"), creation(now=1000.0 + index // 3))
    assert len(await changed(store, None)) == 450


async def test_what_people_write_about_a_run_is_kept_whole_and_is_no_observation(store: HistoryStore) -> None:
    await store.create(KEY, creation())
    await store.append(KEY, item(1, 0))
    before = await store.get(KEY)
    written = await store.annotate(KEY, "a note, ☃", 3000.0)
    assert before is not None
    assert written == before._replace(about="a note, ☃")
    assert await store.get(KEY) == written
    assert (await store.look([KEY]))[KEY][0].about == "a note, ☃"
    assert (await store.page(KEY.project, None, 10))[0].about == "a note, ☃"
    assert KEY.run in await changed(store, 2900.0)
    assert (await store.append(KEY, item(2, 1))).outcome is Outcome.APPENDED
    await store.annotate(KEY, "", 3001.0)
    gone = await store.get(KEY)
    assert gone is not None
    assert gone.about == ""
    assert await store.annotate(RunKey("vision", "none"), "x", 1.0) is None
    await store.annotate(KEY, "of the old one", 3002.0)
    await store.delete(KEY, 3003.0)
    await store.create(KEY, creation())
    again = await store.get(KEY)
    assert again is not None
    assert again.about == ""
