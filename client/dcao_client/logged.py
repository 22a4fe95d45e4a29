"""Numbers of the user's own, a validation accuracy say, on their way into the history with the next decision."""

import math
import re
import threading
from collections.abc import Mapping
from typing import Any

from dcao_client.once import Once
from dcao_proto import Decision
from dcao_proto.observation import MAX_METRICS, METRIC_PATTERN

_is_metric = re.compile(METRIC_PATTERN).fullmatch


def finite(value: Any) -> float | None:
    """A number that JSON can carry; tensors and arrays of one element are numbers too."""
    try:
        number = float(value)
    except Exception:  # noqa: BLE001  (a user's object may raise anything)
        return None
    return number if math.isfinite(number) else None


class Logged:
    """What was logged since the last decision: the last value of each name, 16 names at most.

    Args:
        once: says what is left out.
    """

    def __init__(self, once: Once) -> None:
        self._once = once
        self._lock = threading.Lock()
        self._values: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def add(self, values: Mapping[str, Any]) -> None:
        """Takes what fits; never raises."""
        for name, value in values.items():
            number = finite(value)
            with self._lock:
                room = name in self._values or len(self._values) < MAX_METRICS
                if number is not None and room and isinstance(name, str) and _is_metric(name):
                    self._values[name] = number
                    continue
            self._once.warn(
                "log",
                "DCAO: %.60r was not logged; expected at most %d names between two decisions, of letters, digits and "
                "_./-, 63 at most, with finite numbers",
                name,
                MAX_METRICS,
            )

    def pending(self) -> dict[str, float] | None:
        """For an observation; None if there is nothing."""
        with self._lock:
            return dict(self._values) or None

    def told(self, values: dict[str, float] | None, decision: Decision) -> None:
        """These went with a decision; unless it is still to come, they need not go again."""
        if values and decision.regime != "pending" and not decision.replayed:
            with self._lock:
                self._values = {name: value for name, value in self._values.items() if values.get(name) != value}
