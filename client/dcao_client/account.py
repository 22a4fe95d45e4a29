"""What a session cost, what became of its decisions, and what is said of it at the end."""

import logging
from dataclasses import dataclass

from dcao_client.backlog import Backlog
from dcao_client.journal import Journal
from dcao_client.once import Once
from dcao_proto import Decision, Observation, RunSpec

STALLED = 2.0**-20  # of the rate that the user, or the way come, asks for; training goes nowhere below


@dataclass
class SessionStats:
    """What the session cost and what became of its decisions."""

    decisions: int = 0
    in_process: int = 0  # decided without the controller
    refused_answers: int = 0  # answers that this run does not allow, or that made no sense
    waited: float = 0.0  # s, in total
    longest_wait: float = 0.0  # s


def say_what_is_left(once: Once, backlog: Backlog, journal: Journal, apart: Journal) -> None:
    """Where the decisions are that the controller does not have."""
    waiting = len(backlog)
    if waiting and journal.path is not None:
        once.always(logging.WARNING, "%d decisions wait in %s; dcao sync sends them", waiting, journal.path)
    elif waiting:
        once.always(logging.WARNING, "%d decisions are lost: no journal could be written", waiting)
    if backlog.dropped:
        once.always(logging.WARNING, "%d decisions were dropped", backlog.dropped)
    if apart.path is not None:
        once.always(logging.WARNING, "decisions that the controller refused are in %s", apart.path)


def say_if_it_stands_still(once: Once, spec: RunSpec, observation: Observation, decision: Decision) -> None:
    """A run whose rate is held to next to nothing is told so: it looks like one that has converged."""
    path, wanted = observation.path, (observation.base or spec.base).lr
    if path is not None and path.gradients > 0:
        wanted = path.shape * path.distance / path.gradients
        wanted = wanted if path.most is None else min(wanted, path.most)
    if decision.lr < STALLED * wanted:
        once.warn(
            "stands still",
            "the learning rate is held at %.3g where %.3g is asked for, so training stands still (curvature %s, "
            "reasons: %s); look at the loss that is measured, or set trust='watch' to change nothing",
            decision.lr,
            wanted,
            "not measured" if observation.rho is None else f"{observation.rho:.3g}",
            ", ".join(decision.reasons) or "none",
        )
