"""A promise on cost, kept with a bank account: training earns, probes spend.

Every training step of s seconds earns ``overhead``·s. A probe is due when the interval asked for has passed
and the account can pay for it; so the interval stretches by itself on a model whose probe is dear, and the
share of all time spent probing stays below ``overhead`` but for what was borrowed for the first probe. How
much of a batch is measured follows from the promise alone, not from the clock, so that values stay
comparable through a run.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from dcao_client.checkpoint import check_keys, reading

Action = Literal["none", "track", "measure"]

# Gradients of its own batch that a measurement costs (benchmarks/probe.py: 8 to 16 in the median).
GRADIENTS = 14.0
# Smallest share of the batch that is chosen automatically: below it sharpness is biased upwards too much
# (Jensen).
LEAST = 0.25
# Steps and probes remembered: the median over them ignores a data loader's hiccup.
MEMORY = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do at this step."""

    action: Action
    next_in: int


class Budget:
    """Decides when to probe so that it takes at most ``overhead`` of the wall-clock time.

    On several ranks ask one rank and share its answer: clocks differ.

    >>> budget = Budget(overhead=0.05, interval=10)
    >>> for step in range(100):
    ...     budget.stepped(1.0)
    ...     if budget.plan(step).action == "measure":
    ...         budget.probed(2.0, "measure")
    >>> budget.spent <= 0.05
    True
    """

    def __init__(self, *, overhead: float = 0.05, interval: int = 100, track: bool = True) -> None:
        """Open the account.

        Args:
            overhead: largest share of wall-clock time that probes may take; in (0, 1).
            interval: steps between probes asked for (T_c), ≥ 1; the real one is this or longer.
            track: while a full measurement cannot be paid yet, follow the last vector when that can.

        Raises:
            ValueError: a value is out of range.
        """
        if not 0 < overhead < 1:
            raise ValueError(f"expected an overhead in (0, 1), a share of wall-clock time; got {overhead}")
        if interval < 1:
            raise ValueError(f"expected an interval of at least one step; got {interval}")
        self.overhead, self.interval, self.track = overhead, interval, track
        self.training = self.probing = self.lent = 0.0
        self.steps = self.since_measure = self.since_any = 0
        self._step_times: deque[float] = deque(maxlen=MEMORY)
        self._costs: dict[str, deque[float]] = {"measure": deque(maxlen=5), "track": deque(maxlen=5)}

    @property
    def spent(self) -> float:
        """Share of the wall-clock time so far that probes took, in [0, 1]."""
        total = self.training + self.probing
        return self.probing / total if total > 0 else 0.0

    @property
    def credit(self) -> float:
        """Seconds a probe may take now without breaking the promise: of all time, training and probing alike."""
        return self.overhead / (1 - self.overhead) * self.training - (self.probing - self.lent)

    def share(self) -> float:
        """The part of a batch to measure, a power of two in [1/4, 1], so that ``interval`` can be kept."""
        affordable = self.overhead * self.interval / GRADIENTS
        part = 1.0
        while part > LEAST and part > affordable:
            part /= 2
        return part

    def stepped(self, seconds: float) -> None:
        """A training step took this long, without any probe."""
        self.training += seconds
        self.steps += 1
        self.since_measure += 1
        self.since_any += 1
        self._step_times.append(seconds)

    def probed(self, seconds: float, action: Action, *, lent: bool = False) -> None:
        """A probe took this long. One that is lent counts in ``spent``, but need not be earned before the next."""
        self.probing += seconds
        self.lent += seconds if lent else 0.0
        self.since_any = 0
        if action == "measure":
            self.since_measure = 0
        if action != "none":
            self._costs[action].append(seconds)

    def cost(self, action: Action) -> float:
        """Expected seconds: the median of the last ones; before any, from the step time."""
        known = self._costs.get(action)
        if known:
            return median(known)
        step = median(self._step_times) if self._step_times else 0.0
        return step * (GRADIENTS * self.share() if action == "measure" else 3.0 * self.share())

    def plan(self, step: int) -> Plan:
        """What to do after this step. ``step`` is only used to keep the first probe on the interval's grid."""
        first = not self._costs["measure"]
        if self.since_measure >= self.interval or (first and step % self.interval == 0):
            # The first probe may borrow: without it nothing can be decided, and the account pays it back.
            if first or self.credit >= self.cost("measure"):
                return Plan("measure", self.next_interval())
            if self.track and self.since_any >= self.interval and self.credit >= 2 * self.cost("track"):
                return Plan("track", self.next_interval())
        return Plan("none", self.next_interval())

    def next_interval(self) -> int:
        """Steps until the next measurement, as far as can be told now."""
        if not self._step_times:
            return self.interval
        earned = self.overhead / (1 - self.overhead) * median(self._step_times)
        missing = self.cost("measure") - self.credit
        wait = int(missing / earned) + 1 if missing > 0 and earned > 0 else 0
        return max(self.interval - self.since_measure, wait, 1)

    def state_dict(self) -> dict[str, Any]:
        """The account, for a checkpoint."""
        return {
            "training": self.training,
            "probing": self.probing,
            "lent": self.lent,
            "steps": self.steps,
            "since": [self.since_measure, self.since_any],
            "step_times": list(self._step_times),
            "costs": {name: list(times) for name, times in self._costs.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the account of ``state_dict()``.

        Raises:
            CheckpointError: it is none of a budget.
        """
        check_keys(state, tuple(self.state_dict()), "Budget.state_dict()")
        with reading("Budget.state_dict()", state):
            self.training, self.probing = float(state["training"]), float(state["probing"])
            self.lent = float(state["lent"])
            self.steps = int(state["steps"])
            self.since_measure, self.since_any = (int(n) for n in state["since"])
            self._step_times = deque(state["step_times"], maxlen=MEMORY)
            self._costs = {name: deque(times, maxlen=5) for name, times in state["costs"].items()}
