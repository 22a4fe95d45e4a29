"""A decision in the making."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dcao_proto.decision import Action, Cause, GroupMultiplier, Regime
from dcao_proto.hyperparameters import Multipliers


@dataclass(slots=True)
class Draft:
    """What a policy decided, before it is composed with the base values: factors f, g, h and why."""

    factors: Multipliers
    reasons: list[str] = field(default_factory=list)
    regime: Regime | None = None  # None: follows from the edge ratio
    action: Action = "continue"
    literal_momentum: bool = False
    preserve_effective_lr: bool = False
    next_probe_in: int | None = None  # None: the run's probe interval
    ceiling: float | None = None  # on the learning rate itself; None: no other bound than those of the factor
    groups: tuple[GroupMultiplier, ...] | None = None
    causes: list[Cause] = field(default_factory=list)

    def because(self, code: str, **numbers: float) -> None:
        """Says what moves or holds a value. What is not finite is left out, for it is no number for a person.

        Args:
            code: of a sentence of `reasons.py`, or of the policy's own `sentences`.
            **numbers: what its placeholders stand for; eight at most.

        Raises:
            pydantic.ValidationError: no code, or too many numbers.
        """
        self.causes.append(Cause(code=code, numbers=_finite(numbers)))

    def note(self, code: str, **numbers: float) -> None:
        """A reason, and what it has to say in numbers."""
        self.reasons.append(code)
        if _finite(numbers):
            self.because(code, **numbers)


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
