"""What a decision is written into."""

from typing import Any, Protocol

from dcao_proto import Decision, Hyperparameters
from dcao_proto import Path as WayCome


class Controlled(Protocol):
    """What a decision is written into: a user's optimizer through its groups, or one of our own."""

    steps: int

    @property
    def applied(self) -> Hyperparameters | None:
        """What the last update used."""
        ...

    def base(self) -> Hyperparameters:
        """What would be used without us, now."""
        ...

    def path(self) -> WayCome | None:
        """How far the run has come; None where nothing follows it."""
        ...

    def measured(self, rho: float | None) -> None:
        """A curvature was measured, None if it could not be."""
        ...

    def set(self, decision: Decision) -> None:
        """Uses a decision from the next update on."""
        ...

    def remove(self) -> None:
        """Lets go of the optimizer."""
        ...

    def checkpoint(self) -> dict[str, Any]:
        """What a checkpoint needs of it."""
        ...

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        ...
