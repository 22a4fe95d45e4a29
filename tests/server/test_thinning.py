"""What a thinned history keeps, against a plain twin that holds everything."""

import random

import pytest

from dcao_server.history.thinning import Thinner


def plainly_kept(values: list[tuple[float | None, ...]], most: int) -> set[int]:
    """First, last, smallest and largest of each part; parts are equal, a power of two long, as few as fit."""
    if len(values) <= most:
        return set(range(len(values)))
    series = len(values[0])
    parts = max(1, most // (2 * series + 2))
    length = 1
    while -(-len(values) // length) > parts:
        length *= 2
    kept: set[int] = set()
    for begin in range(0, len(values), length):
        part = range(begin, min(begin + length, len(values)))
        kept |= {part[0], part[-1]}
        for one in range(series):
            there = [i for i in part if values[i][one] is not None]
            if there:
                key = [(values[i][one], i) for i in there]
                kept |= {min(key)[1], max(key)[1]}  # type: ignore[type-var]
    return kept


def thinned(values: list[tuple[float | None, ...]], most: int) -> list[int]:
    thinner: Thinner[int] = Thinner(most, len(values[0]) if values else 1)
    for i, value in enumerate(values):
        thinner.add(i, value)
    assert thinner.count == len(values)
    return thinner.items()


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 128, 1000, 12_345])
def test_the_picture_is_the_same_as_if_everything_had_been_held(count: int) -> None:
    rng = random.Random(count)
    values = [(rng.gauss(0, 1), None if rng.random() < 0.3 else rng.gauss(0, 1)) for _ in range(count)]
    kept = thinned(values, 100)
    assert kept == sorted(kept)
    assert len(kept) <= 100
    assert set(kept) >= plainly_kept(values, 100) or count <= 100
    assert set(kept) == plainly_kept(values, 100)


def test_one_spike_in_a_hundred_thousand_is_kept() -> None:
    values: list[tuple[float | None, ...]] = [(1.0,)] * 100_000
    values[73_511] = (50.0,)
    values[12_345] = (-50.0,)
    kept = thinned(values, 1000)
    assert {0, 12_345, 73_511, 99_999} <= set(kept)
    assert len(kept) <= 1000


def test_a_series_without_a_value_keeps_the_ends() -> None:
    kept = thinned([(None,)] * 5000, 64)
    assert {0, 4999} <= set(kept)
    assert len(kept) <= 64
