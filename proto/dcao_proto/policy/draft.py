"""A decision in the making."""

from dataclasses import dataclass, field

from dcao_proto.decision import Action, GroupMultiplier, Regime
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
