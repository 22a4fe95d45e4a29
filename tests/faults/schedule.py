"""What goes wrong and when: a function of a seed."""

import random
from typing import Literal, NamedTuple

FaultKind = Literal[
    "kill-controller",
    "stop-controller",
    "pause-controller",
    "kill-redis",
    "crash-redis",
    "pause-redis",
    "delay-front",
    "delay-back",
    "swallow-front",
    "swallow-back",
    "reset-front",
    "reset-back",
    "truncate-front",
    "truncate-back",
    "refuse-front",
]

KINDS: dict[FaultKind, tuple[float, float]] = {
    "kill-controller": (0.2, 3.0),
    "stop-controller": (0.5, 2.0),
    "pause-controller": (0.05, 1.5),
    "kill-redis": (0.1, 3.0),
    "crash-redis": (0.1, 2.0),
    "pause-redis": (0.05, 1.5),
    "delay-front": (0.5, 2.0),
    "delay-back": (0.5, 2.0),
    "swallow-front": (0.1, 1.0),
    "swallow-back": (0.1, 1.0),
    "reset-front": (0.0, 0.0),
    "reset-back": (0.0, 0.0),
    "truncate-front": (0.3, 1.5),
    "truncate-back": (0.3, 1.5),
    "refuse-front": (0.2, 2.0),
}
"""Seconds that each lasts, from and to. stop is SIGTERM, kill SIGKILL, pause SIGSTOP; crash loses the last second."""


class Fault(NamedTuple):
    """One thing that goes wrong, at `at` seconds from the start, for `seconds`, on replica `target`."""

    at: float
    kind: FaultKind
    seconds: float
    target: int


def schedule(seed: int, duration: float, gap: float, replicas: int) -> list[Fault]:
    """Faults in order of time, every kind about equally often; they may overlap.

    Args:
        seed: the same one gives the same faults.
        duration: seconds in which they begin.
        gap: seconds between two beginnings, on average.
        replicas: controllers to choose from.
    """
    rng = random.Random(seed)
    faults: list[Fault] = []
    bag: list[FaultKind] = []
    at = rng.uniform(0, gap)
    while at < duration:
        if not bag:
            bag = list(KINDS)
            rng.shuffle(bag)
        kind = bag.pop()
        faults.append(Fault(at, kind, rng.uniform(*KINDS[kind]), rng.randrange(replicas)))
        at += rng.uniform(0.5 * gap, 1.5 * gap)
    return faults
