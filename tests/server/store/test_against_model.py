"""Each store against the dictionary, through any sequence of calls that hypothesis can think of."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from dcao_server.store.contract import START, Append, Backfill, HistoryStore, Position, Restart, RunKey
from tests.components.redis_server import RedisServer
from tests.server.store.model import ModelRun
from tests.server.store.opening import DIGEST, OTHER_DIGEST, creation, redis_store, sqlite_store

T = TypeVar("T")

STEPS = st.integers(0, 12)
STEP_SHIFTS = st.sampled_from([-4, -2, -1, 0, 0, 1, 1, 1, 2, 5])  # from the newest
SHIFTS = st.sampled_from([-2, -1, 0, 0, 0, 0, 1, 3])
ATTEMPT_SHIFTS = st.sampled_from([-1, 0, 0, 0, 0, 0, 1, 2])
DIGESTS = st.sampled_from([DIGEST] * 9 + [OTHER_DIGEST])
RUNS = st.sampled_from(["a", "b"])


class Against(RuleBasedStateMachine):
    """Calls both; every reply and everything that can be read afterwards must be the same."""

    open_store: ClassVar[Callable[[], HistoryStore]]

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.store = type(self).open_store()
        self.wait(self.store.open())
        self.model: dict[str, ModelRun] = {}
        self.stamp = 0
        for name in ("a", "b"):
            self.wait(self.store.delete(RunKey("p", name), 1.0))  # a Redis is shared by all examples
            # Here and not by the rule alone: hypothesis leaves rules out of whole examples.
            self.create(name, DIGEST)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.wait(self.store.close())
            self.loop.close()

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self.loop.run_until_complete(awaitable)

    def text(self) -> str:
        """A new state or payload."""
        self.stamp += 1
        return f"t{self.stamp}"

    @rule(run=RUNS, digest=DIGESTS)
    def create(self, run: str, digest: str) -> None:
        state = self.text()
        made = self.wait(self.store.create(RunKey("p", run), creation(state=state, digest=digest)))
        assert made is not None
        assert made[1] == (run not in self.model)
        self.model.setdefault(run, ModelRun(digest, state))

    @rule(run=RUNS, attempt=ATTEMPT_SHIFTS, step=STEP_SHIFTS, version=SHIFTS, digest=DIGESTS)
    def append(self, run: str, attempt: int, step: int, version: int, digest: str) -> None:
        known = self.model.get(run)
        if known is None:
            return
        item = Append(
            max(0, known.attempt + attempt),
            max(0, (known.last(known.attempt + attempt) or 0) + step),
            max(0, known.version + version),
            digest,
            self.text().encode(),
            self.text(),
            1.0,
        )
        assert self.wait(self.store.append(RunKey("p", run), item)) == known.append(item)

    @rule(
        run=RUNS, attempt=ATTEMPT_SHIFTS, steps=st.sets(STEPS, min_size=1, max_size=6), version=SHIFTS, digest=DIGESTS
    )
    def backfill(self, run: str, attempt: int, steps: set[int], version: int, digest: str) -> None:
        known = self.model.get(run)
        if known is None:
            return
        entries = tuple((step, self.text().encode()) for step in sorted(steps))
        batch = Backfill(
            max(0, known.attempt + attempt), digest, entries, max(1, known.version + version), self.text(), 1.0
        )
        assert self.wait(self.store.backfill(RunKey("p", run), batch)) == known.backfill(batch)

    @rule(
        run=RUNS,
        attempt=st.none() | ATTEMPT_SHIFTS,
        told=st.sampled_from(["nothing", "start", "other"]),
        digest=DIGESTS,
    )
    def begin_attempt(self, run: str, attempt: int | None, told: str, digest: str) -> None:
        known = self.model.get(run)
        if known is None:
            return
        state, version = known.start if told == "start" and known.start else (None, None)
        if told == "other":
            state, version = self.text(), known.version + 1
        wanted = None if attempt is None else max(0, known.attempt + attempt)
        restart = Restart(wanted, None, state, version, digest if state else "", 1.0)
        assert self.wait(self.store.begin_attempt(RunKey("p", run), restart)) == known.restart(restart)

    @rule(run=RUNS, status=st.sampled_from(["finished", "failed"]))
    def end(self, run: str, status: str) -> None:
        ended = self.wait(self.store.end(RunKey("p", run), status, None, 1.0))  # type: ignore[arg-type]
        if run in self.model:
            assert ended is not None
            assert ended.status == self.model[run].end(status)
        else:
            assert ended is None

    @rule(run=RUNS)
    def delete(self, run: str) -> None:
        assert self.wait(self.store.delete(RunKey("p", run), 1.0)) == (run in self.model)
        self.model.pop(run, None)

    @rule(run=RUNS, attempt=st.integers(0, 4), step=STEPS, limit=st.integers(1, 5))
    def read(self, run: str, attempt: int, step: int, limit: int) -> None:
        expected = self.model[run].records() if run in self.model else []
        after = [record for record in expected if record[:2] > (attempt, step)][:limit]
        assert self.wait(self.store.read(RunKey("p", run), Position(attempt, step), limit)) == after

    @invariant()
    def everything_is_the_same(self) -> None:
        for name, run in self.model.items():
            stored = self.wait(self.store.get(RunKey("p", name)))
            assert stored is not None
            assert (stored.attempt, stored.version, stored.state) == (run.attempt, run.version, run.state)
            assert (stored.status, stored.digest) == (run.status, run.digest)
            assert (stored.last_step, stored.decisions) == (run.last(run.attempt), len(run.steps(run.attempt)))
            assert self.wait(self.store.read(RunKey("p", name), START, 1000)) == run.records()


def check(opener: Callable[[], HistoryStore], examples: int) -> None:
    machine = type("Machine", (Against,), {"open_store": staticmethod(opener)})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )


def check_sqlite(folder: Path, examples: int) -> None:
    def opener() -> HistoryStore:
        return sqlite_store(Path(tempfile.mkdtemp(dir=folder)))

    check(opener, examples)


def test_redis_is_the_dictionary(redis_server: RedisServer) -> None:
    check(lambda: redis_store(redis_server.url), 40)


def test_sqlite_is_the_dictionary(tmp_path: Path) -> None:
    check_sqlite(tmp_path, 40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_redis_is_the_dictionary_in_a_thousand_lives(redis_server: RedisServer) -> None:
    check(lambda: redis_store(redis_server.url), 1000)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sqlite_is_the_dictionary_in_a_thousand_lives(tmp_path: Path) -> None:
    check_sqlite(tmp_path, 1000)
