"""Handing a run's decisions over: who owns the attempt, what the store has, what it lacks and gets again."""

import logging
import threading
from collections.abc import Callable, Iterable

from dcao_client.backlog import CHUNK, Backlog, deliver
from dcao_client.dialogue import Dialogue
from dcao_client.errors import AnswerError, RefusedError
from dcao_client.lineage import Lineage
from dcao_client.once import Once
from dcao_proto import Decision, JournalEntry, Observation, Run

ENDED = ("finished", "failed")
STRIKES = 3  # times that a controller which accepts nothing is asked again before an entry is set aside


class Handover:
    """What the controller has of a run, as far as this session knows. For the courier's thread.

    Methods that talk raise UnreachableError, AnswerError or RefusedError.

    Args:
        dialogue: with the controller.
        lineage, backlog: the session's; guarded by `lock`.
        lock: the session's.
        once: says what must be said.
        joins: whether other workers share the run, so that an existing run is joined rather than begun anew.
        set_aside: keeps an entry that the controller does not take, and says where.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        lineage: Lineage,
        backlog: Backlog,
        lock: threading.Lock,
        once: Once,
        *,
        joins: bool,
        set_aside: Callable[[JournalEntry, RefusedError | None], None],
    ) -> None:
        self._dialogue = dialogue
        self._lineage = lineage
        self._backlog = backlog
        self._lock = lock
        self._once = once
        self._joins = joins
        self._set_aside = set_aside
        self.registered = False
        self.suspicious = False  # something went wrong: what the store acknowledged may be lost
        self.apart = 0  # entries that were set aside
        self._recovering = False  # what may be lost is in the backlog again
        self._beyond_recovery = 0  # decisions that the store lacks and that we cannot give it
        self._strikes = 0

    def ask(self, observation: Observation) -> Decision:
        """The controller's decision, behind all that waits: in the history they come before this one."""
        while len(self._backlog):
            self.deliver()
        return self._ask(observation)

    def deliver(self) -> None:
        """One chunk of the backlog."""
        if self._needs_registration():
            self._register()
        if len(self._backlog):
            self._deliver_chunk()

    def _ask(self, observation: Observation) -> Decision:
        if not self.registered:
            self._register()
        with self._lock:
            asked = observation.model_copy(update={"attempt": self._lineage.attempt})
            law = self._lineage.law(asked)
        decision, healed_after = self._dialogue.ask(self._lineage.bound.spec, asked, law)
        if (fault := self._lineage.outruns(asked, decision)) is not None:
            raise AnswerError("decision:version", f"the decision is none that this run allows; version: {fault}")
        if healed_after is not None:
            self._recover(healed_after, before=observation.step)
        if not self._lineage.readable(decision):
            self._once.warn(
                "state",
                "the controller's state cannot be read here (it may be newer than this client); its decisions are "
                "used, and without it this client goes on from the last state that it could read",
            )
            decision = decision.model_copy(update={"state": None})
        elif law is not None and (fault := self._lineage.leads_astray(asked, law, decision)) is not None:
            raise AnswerError("decision:state", f"from its state the law here would go where it never goes; {fault}")
        elif decision.policy != self._lineage.bound.policy.label:
            self._once.warn(
                "policy",
                "the controller decides by %s, this client has %s: what it decides alone may differ; upgrade it",
                decision.policy,
                self._lineage.bound.policy.label,
            )
        return decision

    def _needs_registration(self) -> bool:
        """Decisions of an attempt before a rollback go first; the next attempt would fence them off."""
        with self._lock:
            oldest = self._backlog.oldest()
            of_older_attempt = bool(oldest) and oldest[0].decision.attempt < self._lineage.attempt
            of_older_attempt = of_older_attempt and not self._lineage.confirmed
        unsure = self.suspicious and not self._recovering
        return not of_older_attempt and (not self.registered or unsure)

    def _register(self) -> None:
        """Declares the run and makes sure that the attempt is ours; learns what the store still has."""
        lineage = self._lineage
        run = self._dialogue.declare(lineage.bound.spec)
        used = run.version > 0 or run.attempt > 1 or run.last_step is not None or run.status in ENDED
        if lineage.confirmed and run.attempt > lineage.attempt:
            raise RefusedError("fenced", 409, f"attempt {run.attempt} owns the run, this is {lineage.attempt}")
        if lineage.confirmed and run.attempt < lineage.attempt:  # the store lost the run; it gets what is left of it
            attempt, missing = self._dialogue.take_attempt(lineage.origin, lineage.attempt), True
        elif not lineage.confirmed and (lineage.resumed or (used and not self._joins)):
            attempt, missing = self._dialogue.take_attempt(lineage.origin, None), True
            if not lineage.resumed:
                self._say_used_again(run, attempt)
        else:
            attempt, missing = run.attempt, self._misses(run)
        with self._lock:
            lineage.attempt, lineage.confirmed = attempt, True
            self.suspicious = False
            if missing:
                self._put_back(lineage.ring.values())
        self.registered = True

    def _say_used_again(self, run: Run, attempt: int) -> None:
        """Nobody went back to a checkpoint: most likely the name is that of another training."""
        there = "had ended" if run.status in ENDED else "is under way, and whatever still writes it is shut out now"
        self._once.always(
            logging.WARNING,
            "run %s of project %s was there already: its attempt %d (%s, last step %s) %s. This training is attempt %d "
            "of it; the earlier ones stay in its history (dcao export %s). For a run of its own give another name, or "
            "none and one is made up; to go on from a checkpoint load it before the first step",
            run.run, run.project, run.attempt, run.status, run.last_step, there, attempt, run.run,
        )  # fmt: skip

    def _deliver_chunk(self) -> None:
        with self._lock:
            chunk = self._backlog.oldest(CHUNK)
            if not chunk:
                return
            older = chunk[0].decision.attempt < self._lineage.attempt and not self._lineage.confirmed
            attempt = chunk[0].decision.attempt if older else self._lineage.attempt
            chunk = [e for e in chunk if not older or e.decision.attempt == attempt]
        result = deliver(chunk, lambda part: self._dialogue.backfill(part, attempt))
        self._strikes = 0 if result.accepted else self._strikes + 1
        if result.why is not None and not result.accepted and self._strikes < STRIKES:
            raise result.why  # one replica that lags behind refuses everything: it is asked again
        self._strikes = 0
        with self._lock:
            for entry in result.refused:
                self.apart += 1
                self._set_aside(entry, result.why)
            self._backlog.take([*result.accepted, *result.refused])
            self._lineage.acknowledge(result.accepted)
            if not len(self._backlog):
                self._recovering = False
                # What the store lost between the registration and this would never show: the version is right again.
                self.suspicious = True
                self._once.always(logging.INFO, "the controller has every decision that it takes")

    def _recover(self, healed_after: int, *, before: int) -> None:
        """The store lost decisions that it had acknowledged: sends those of the ring again."""
        with self._lock:
            lost = [e for e in self._lineage.ring.values() if healed_after < e.observation.step < before]
            self._put_back(lost)
        self._once.always(logging.WARNING, "the controller's store lost %d decisions; sending them again", len(lost))

    def _misses(self, run: Run) -> bool:
        """Whether the store lacks something that it acknowledged: its newest step is not the newest that we know of, or
        it holds fewer decisions than were made. What it trimmed, or lost too long ago, is asked about once."""
        with self._lock:
            newest = max((entry.observation.step for entry in self._lineage.ring.values()), default=-1)
        lacking = run.version - (self._lineage.origin.version or 0) - run.decisions
        more, self._beyond_recovery = lacking > self._beyond_recovery, max(lacking, 0)
        return more or newest > (-1 if run.last_step is None else run.last_step)

    def _put_back(self, entries: Iterable[JournalEntry]) -> None:
        """Adds acknowledged entries to the backlog again, each once and in order. The lock is held."""
        self._backlog.put_back(entries)
        # Whether it helped is asked when they are delivered, and not before: until then they are the oldest again.
        self._recovering = bool(len(self._backlog))
        self.suspicious = self._recovering
