"""What a session cost, what became of its decisions, and what is said of it at the end."""

import contextlib
import logging
from dataclasses import dataclass
from itertools import islice

from dcao_client.backlog import Backlog
from dcao_client.journal import Journal
from dcao_client.once import Once, log
from dcao_client.settings import ClientSettings
from dcao_proto import Decision, Observation, RunSpec
from dcao_proto.policy.registry import sentences
from dcao_proto.policy.why import why

STALLED = 2.0**-20  # of the rate that the user, or the way come, asks for; training goes nowhere below


@dataclass
class SessionStats:
    """What the session cost and what became of its decisions."""

    decisions: int = 0
    in_process: int = 0  # decided without the controller
    refused_answers: int = 0  # answers that this run does not allow, or that made no sense
    waited: float = 0.0  # s, in total
    longest_wait: float = 0.0  # s


def say_where_it_lies(once: Once, settings: ClientSettings, journal: Journal, *, resumed: bool) -> None:
    """Without a controller the journal is the history. Who has no other yet is told aloud, and so is who takes a name
    again; where journals lie already, the folder is known."""
    path = journal.path
    known = path is not None and any(other != path for other in islice(settings.journal_dir.glob("*/*.jsonl"), 2))
    once.always(
        logging.INFO if known else logging.WARNING,
        "no DCAO_URL: deciding in-process, the decisions are in %s (at most %d MiB; dcao sync sends them, "
        "DCAO_JOURNAL_DIR moves them, DCAO_JOURNAL=0 keeps none)",
        path,
        settings.journal_max_mib,
    )
    if journal.number and not resumed:
        once.always(
            logging.WARNING,
            "a journal of this run was there already, so this training is kept beside it in %s; a controller takes "
            "only one of them under the name. Give each training a name of its own, or none and one is made up; "
            "dcao sync --run NAME sends this one under another",
            path,
        )


def say_what_is_left(once: Once, backlog: Backlog, journal: Journal, apart: Journal, *, end: bool) -> None:
    """Where the decisions are that the controller does not have, and the end of the run if it does not know of it."""
    waiting = len(backlog)
    if waiting and journal.path is not None:
        once.always(logging.WARNING, "%d decisions wait in %s; dcao sync sends them", waiting, journal.path)
    elif end:
        once.always(logging.WARNING, "the end of the run waits in %s; dcao sync sends it", journal.path)
    elif waiting:
        once.always(logging.WARNING, "%d decisions are lost: no journal could be written", waiting)
    if backlog.dropped:
        once.always(logging.WARNING, "%d decisions were dropped", backlog.dropped)
    if apart.path is not None:
        once.always(logging.WARNING, "decisions that the controller refused are in %s", apart.path)


def say_why(decision: Decision, before: Decision | None) -> None:
    """Every decision in sentences: for information where something else drives it than before, else for debugging."""
    with contextlib.suppress(Exception):  # a log that is broken, a plug-in's sentence: no reason to stop training
        level = logging.INFO if before is None or _drive(decision) != _drive(before) else logging.DEBUG
        if log.isEnabledFor(level):
            words = " ".join(why(decision, before, sentences()))
            log.log(level, "step %d, %s: %s", decision.step, decision.regime, words)


def _drive(decision: Decision) -> tuple[object, ...]:
    return decision.regime, decision.action, decision.reasons, [cause.code for cause in decision.causes or ()]


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
