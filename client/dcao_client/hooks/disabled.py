"""`DCAO_ENABLED=0`: what `attach` gives back then. The code around it stays, and trains as if it were not there."""

import logging
from collections.abc import Mapping
from typing import Any, Self

from dcao_client.checkpoint import check_keys, reading
from dcao_client.hooks.attachment import MADE_BY, Attachment
from dcao_client.hooks.controlled import Controlled
from dcao_proto import Decision, Hyperparameters

log = logging.getLogger("dcao")

_said: set[str] = set()


class Disabled(Attachment):
    """Measures nothing, asks nobody, changes nothing.

    Args:
        controlled: an optimizer of ours, which goes on without us; None for one of the user's, which is not touched.
    """

    def __init__(self, controlled: Controlled | None = None) -> None:
        self.decision = self.spectrum = self.tracked = self.session = None
        self.went_back = False
        self._alone = controlled
        self._probe_data = None
        text = "DCAO_ENABLED=0: nothing is measured, no controller is asked, and "
        text += (
            "no value is changed" if controlled is None else "DCAO trains at the path's rate, which no curvature holds"
        )
        if text not in _said:
            _said.add(text)
            log.warning(text)

    @property
    def steps(self) -> int:
        """Of an optimizer of ours; 0 for the user's, which nobody counts."""
        return 0 if self._alone is None else self._alone.steps

    @property
    def applied(self) -> Hyperparameters | None:
        """What an optimizer of ours used last."""
        return None if self._alone is None else self._alone.applied

    def step(self, batch: Any = None) -> Decision | None:
        """Nothing."""
        return None

    def log(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Nothing."""

    def log_to(self, *targets: Any) -> Self:
        """Nothing."""
        return self

    def log_applied(self) -> None:
        """Nothing."""

    def measure_over(self, collective: Any) -> None:
        """Nothing."""

    def diverged(self, detail: str) -> Decision | None:
        """Nothing."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Of an optimizer of ours what it needs to go on."""
        return {"controlled": None if self._alone is None else self._alone.checkpoint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Also from a checkpoint that was made under control."""
        check_keys(state, ("controlled",), MADE_BY)
        if self._alone is not None and state["controlled"] is not None:
            with reading(MADE_BY, state):
                self._alone.resume(state["controlled"])

    def replaced(self) -> None:
        """Nothing."""

    def finish(self, reason: str | None = None) -> bool:
        """Lets go of the model; True, for there is no controller."""
        if self._alone is not None:
            self._alone.remove()
        return True

    fail = finish
