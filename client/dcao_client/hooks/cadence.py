"""When to probe: every so many steps, or later where the budget of wall-clock time says so."""

import time
from typing import Any

from dcao_client.hooks.ranks import from_talker
from dcao_client.spectrum import Budget
from dcao_client.spectrum.budget import Action, Plan


class Cadence:
    """Counts steps and seconds, and says when a probe is due. All ranks get rank 0's answer, whose clock counts.

    Args:
        interval: T_c, optimizer steps from one probe to the next.
        overhead: largest share of wall-clock time that probes may take; None keeps the interval whatever it costs, so
            that the steps at which a run is probed do not depend on a clock.
        lent: probes at the start that need not be earned. They are few, and what they cost is in `spent`.
    """

    def __init__(self, interval: int, overhead: float | None, lent: int = 0) -> None:
        self._lent = lent
        self.budget = Budget(overhead=overhead, interval=interval) if overhead is not None else None
        self._next = 0
        self._counted = 0
        self._started = self._mark = time.perf_counter()
        self._probing = 0.0

    @property
    def spent(self) -> float | None:
        """Share of the wall-clock time so far that probes took, in [0, 1]; None before anything was measured."""
        if self.budget is not None:
            return self.budget.spent or None
        elapsed = time.perf_counter() - self._started
        return min(self._probing / elapsed, 1.0) if self._probing and elapsed > 0 else None

    def due(self, step: int) -> Action:
        """What to do before this optimizer step."""
        if self.budget is not None and step > self._counted:
            self._count(self.budget, step)
        if step < self._next:
            return "none"
        if self.budget is None or self._lent > 0:
            return "measure"
        plan = from_talker(self.budget.plan(step))
        if plan.action == "none":
            self._next = step + plan.next_in
        return plan.action

    def probed(self, step: int, seconds: float, action: Action, next_in: int) -> None:
        """A probe took so long; the decision asks for the next one after `next_in` steps."""
        self._probing += seconds
        self._mark = time.perf_counter()
        lent, self._lent = self._lent > 0, max(self._lent - 1, 0)
        if self.budget is not None:
            self.budget.probed(seconds, action, lent=lent)
        if self.budget is not None and self._lent == 0:
            plan = from_talker(Plan("none", self.budget.next_interval()))
            next_in = max(next_in, plan.next_in)
        self._next = step + next_in

    def measure_at(self, due: int, step: int) -> None:
        """The run stands at this step now, earlier than it was; the next probe is due at another, or there."""
        self._next, self._counted = due, step

    def _count(self, budget: Budget, step: int) -> None:
        now = time.perf_counter()
        steps, seconds = step - self._counted, now - self._mark
        for _ in range(steps):
            budget.stepped(seconds / steps)
        self._counted, self._mark = step, now

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        budget = None if self.budget is None else self.budget.state_dict()
        return {"next": self._next, "lent": self._lent, "budget": budget}

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Goes on from a checkpoint taken at this step."""
        self._next, self._counted, self._lent = state["next"], step, state["lent"]
        self._mark = time.perf_counter()
        if self.budget is not None and state["budget"] is not None:
            self.budget.load_state_dict(state["budget"])
