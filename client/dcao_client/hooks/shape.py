"""The shape of a user's schedule: its value over its peak, whatever its scale is."""

from __future__ import annotations

from typing import Any

HELD_STEPS, HELD_SHARE = 10, 0.05  # a value is a peak once it stood for so many steps, or this share of all


class Shape:
    """Follows a base learning rate and says what part of its peak it is, in [0, 1].

    A rising schedule is its own peak: its warm-up reads as 1, because the path warms up by itself. A value above the
    peak counts as the peak at once, but *becomes* it only when it has stood for a while: a spike of the schedule must
    not leave a small shape behind.

    >>> shape = Shape()
    >>> [shape.follow(lr) for lr in (0.1, 0.1, 0.05)]
    [1.0, 1.0, 0.5]
    >>> shape.follow(1.6), shape.follow(0.05)  # a spike
    (1.0, 0.5)
    """

    def __init__(self) -> None:
        self.peak = 0.0
        self._steps = 0
        self._above = 0  # steps in a row above the peak
        self._least = 0.0  # the smallest value among them

    def follow(self, lr: float) -> float:
        """The shape at this step."""
        self._steps += 1
        if lr <= self.peak:
            self._above = 0
            return lr / self.peak if self.peak > 0 else 0.0
        self._least = lr if self._above == 0 else min(self._least, lr)
        self._above += 1
        if self.peak == 0.0 or self._above >= max(HELD_STEPS, HELD_SHARE * self._steps):
            self.peak, self._above = self._least, 0
        return 1.0

    def now(self, lr: float) -> float:
        """The shape that this value has, without following it."""
        return min(lr / self.peak, 1.0) if self.peak > 0 else 1.0

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"peak": self.peak, "steps": self._steps, "above": self._above, "least": self._least}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.peak, self._least = float(state["peak"]), float(state["least"])
        self._steps, self._above = int(state["steps"]), int(state["above"])
