"""A long history as a chart needs it: few records that draw the same picture.

M4 (Jugel, Jerzak, Hackenbroich, Markl 2014, "M4: A Visualization-Oriented Time Series Data Aggregation", PVLDB 7(10)):
of each of some equal parts the first, the last, and those with the smallest and the largest value are kept, so that no
spike is lost and every point of the chart is a record that was. How it differs from the paper:

1. Parts have equal numbers of records, not equal widths: a client that probes more often for a while is seen closer.
2. One pass of unknown length: when there are too many parts, neighbours become one and the parts twice as long.
3. Several series are looked at together, and whole records are kept.

`tsdownsample` does it faster, on NumPy arrays that hold everything at once; the server has neither.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
Values = Sequence[float | None]


class _Kept(NamedTuple, Generic[T]):
    place: int
    values: Values
    item: T


class Thinner(Generic[T]):
    """Takes items one after the other and remembers a bounded number of them.

    Args:
        most: items kept, at most; at least two for each series and end.
        series: numbers that come with each item, of which smallest and largest are kept.
    """

    def __init__(self, most: int, series: int) -> None:
        self._series = series
        self._each = 2 * series + 2
        self._parts: list[list[_Kept[T]]] = []
        self._most_parts = max(1, most // self._each)
        self._length = 1
        """Items of a part."""
        self._few: list[_Kept[T]] | None = []
        """All of them, as long as they are no more than may be kept."""
        self._most = most
        self.count = 0
        """Items so far."""

    def add(self, item: T, values: Values) -> None:
        """The next one, with its values; None where there is none."""
        kept = _Kept(self.count, values, item)
        self.count += 1
        if self._few is not None:
            if len(self._few) < self._most:
                self._few.append(kept)
                return
            few, self._few = self._few, None
            for earlier in few:
                self._place(earlier)
        self._place(kept)

    def _place(self, kept: _Kept[T]) -> None:
        index = kept.place // self._length
        if index >= self._most_parts:
            self._parts = [
                self._reduced([*self._parts[i], *(self._parts[i + 1] if i + 1 < len(self._parts) else ())])
                for i in range(0, len(self._parts), 2)
            ]
            self._length *= 2
            index = kept.place // self._length
        if index == len(self._parts):
            self._parts.append([])
        part = self._parts[index]
        part.append(kept)
        if len(part) >= 4 * self._each:  # looked through now and then, not for each item
            self._parts[index] = self._reduced(part)

    def _reduced(self, part: list[_Kept[T]]) -> list[_Kept[T]]:
        if len(part) <= 2:
            return part
        chosen = {0, len(part) - 1}
        for series in range(self._series):
            there = [(kept.values[series], i) for i, kept in enumerate(part) if kept.values[series] is not None]
            if there:
                chosen.update((min(there)[1], max(there)[1]))
        return [part[i] for i in sorted(chosen)]

    def items(self) -> list[T]:
        """Those kept, in order."""
        if self._few is not None:
            return [kept.item for kept in self._few]
        return [kept.item for part in self._parts for kept in self._reduced(part)]
