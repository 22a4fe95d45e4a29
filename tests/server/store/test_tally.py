"""What a replica tells the store beside the decisions: in portions, none twice, none lost at the end."""

import asyncio
from collections import Counter

import pytest

from dcao_server.store.contract import RunKey, StoreUnavailableError
from dcao_server.store.tally import RUNS_AT_ONCE, Tally

KEYS = [RunKey("p", f"r{i}") for i in range(100)]


class Told:
    """A store that adds up what it is told, and may be away."""

    def __init__(self) -> None:
        self.portions: list[int] = []
        self.heard: dict[RunKey, float] = {}
        self.counts: dict[RunKey, Counter[str]] = {}
        self.away = False
        self.delay = 0.0

    async def __call__(self, heard: dict[RunKey, float], counts: dict[RunKey, Counter[str]]) -> None:
        if self.away:
            raise StoreUnavailableError("away")
        await asyncio.sleep(self.delay)
        self.portions.append(len(heard | counts))
        self.heard |= heard
        for key, names in counts.items():
            self.counts[key] = self.counts.get(key, Counter()) + names


async def test_a_flush_tells_everything_a_few_runs_at_a_time() -> None:
    told = Told()
    tally = Tally(told)
    for key in KEYS:
        tally.heard(key, 5.0)
        tally.count(key, ["decided", "clamped:lr"])
    tally.count(KEYS[0], ["decided"])
    await tally.flush()
    assert max(told.portions) == RUNS_AT_ONCE
    assert told.heard == dict.fromkeys(KEYS, 5.0)
    assert told.counts == {key: Counter({"decided": 1 + (key == KEYS[0]), "clamped:lr": 1}) for key in KEYS}
    await tally.flush()
    assert sum(told.portions) == len(KEYS)


async def test_while_the_store_is_away_times_are_kept_and_no_count_is_told_twice() -> None:
    told = Told()
    tally = Tally(told)
    for key in KEYS:
        tally.heard(key, 5.0)
        tally.count(key, ["decided"])
    told.away = True
    with pytest.raises(StoreUnavailableError):
        await tally.flush()
    tally.heard(KEYS[0], 6.0)
    told.away = False
    await tally.flush()
    assert told.heard == {**dict.fromkeys(KEYS, 5.0), KEYS[0]: 6.0}
    dropped = len(KEYS) - len(told.counts)
    assert dropped == RUNS_AT_ONCE  # nobody knows whether those of the portion that failed were added
    assert all(names == Counter({"decided": 1}) for names in told.counts.values())


async def test_the_end_waits_for_what_is_being_told_and_tells_the_rest() -> None:
    told = Told()
    told.delay = 0.01
    tally = Tally(told)
    tally.start()
    await asyncio.sleep(0)
    for key in KEYS:
        tally.count(key, ["decided"])
    await tally.stop()
    assert told.counts == {key: Counter({"decided": 1}) for key in KEYS}
