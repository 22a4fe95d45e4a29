"""Is `step(batch)` called, and before the optimizer's? What a loop forgets changes nothing that can be seen: without a
batch nothing is measured, so nothing is decided. It is said once, with how to mend it."""

from __future__ import annotations

from dcao_client.once import Once

PATIENCE = 3  # updates; a loop that measures at all does so before the first
CALL = (
    "call dcao.step(batch) before each optimizer.step(), or optimizer.step(batch=batch) if the optimizer is DCAO; "
    "batch is what loss(model, batch) takes"
)


class LoopOrder:
    """Watches in which order a loop calls.

    Args:
        once: says it.
        counted: whether `updated` is called; without it only an end can tell.
    """

    def __init__(self, once: Once, *, counted: bool = True) -> None:
        self._once = once
        self._counted = counted
        self._updates = 0
        self._asked = False

    def asked(self) -> None:
        """`step` was called."""
        if not self._asked and 0 < self._updates < PATIENCE:
            self._once.warn(
                "order",
                "DCAO: dcao.step(batch) was first called after optimizer.step(), where it measures a batch that was "
                "just trained on, and decides too late for this step; %s",
                CALL,
            )
        self._asked = True

    def updated(self) -> None:
        """The optimizer took a step."""
        self._updates += 1
        if self._updates == PATIENCE and not self._asked:
            self._say()

    def ended(self) -> None:
        """The run has finished."""
        if not self._asked and (self._updates or not self._counted):
            self._say()

    def _say(self) -> None:
        so_far = f"in {self._updates} optimizer steps" if self._counted else "up to its end"
        self._once.warn("unasked", "DCAO: nothing was measured or decided %s; %s", so_far, CALL)
