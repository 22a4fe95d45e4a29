"""Writers: training loops without the training, on the real client session."""

import contextlib
import json
import logging
import multiprocessing
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import httpx

from dcao_client.session import Session
from dcao_proto import Decision, Observation
from dcao_proto.paths import DECISIONS
from tests.faults.cluster import REPOSITORY
from tests.faults.workload import PROJECT, answer_of, observations, run_name, spec_of

DEADLINE = 0.25
DUPLICATE_SHARE = 0.05
"""Of the steps, how many are asked a second time, by somebody who lost the answer."""
CALM_DECISIONS = 5
START_SECONDS = 120
FLUSH_SECONDS = 90
"""Above the courier's longest pause of 30 s, and time to deliver."""


@dataclass
class Job:
    """What one process of writers does; everything in it can be pickled."""

    seed: int
    writers: list[int]
    urls: list[str]
    pace: float
    folder: Path


@dataclass
class Log:
    """What one writer saw."""

    writer: int
    applied: list[dict[str, Any]] = field(default_factory=list)
    """Step and answer of each decision, in order."""
    diverging: list[str] = field(default_factory=list)
    """A second question about a step that was answered otherwise than the first."""
    raised: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    starved: dict[int, float] = field(default_factory=dict)
    """Of calls past the deadline, by number: seconds for which the writer could have run, but had no processor."""
    duplicates: int = 0
    in_process: int = 0
    delivered: bool = False

    def save(self, folder: Path) -> None:
        """Writes it where `load_logs` finds it."""
        (folder / f"writer-{self.writer}.json").write_text(json.dumps(self.__dict__))


def load_logs(folder: Path) -> list[Log]:
    """The logs of all writers."""
    logs = [Log(**json.loads(path.read_text())) for path in sorted(folder.glob("writer-*.json"))]
    for log in logs:
        log.starved = {int(number): seconds for number, seconds in log.starved.items()}
    return logs


class Writers:
    """All writers, one or a few to a process: threads of one interpreter wait for each other, not for an answer."""

    def __init__(self, jobs: list[Job]) -> None:
        context = multiprocessing.get_context("spawn")
        self._calm = context.Event()
        self._ready = context.Barrier(len(jobs) + 1)
        self._processes = [context.Process(target=work, args=(job, self._ready, self._calm)) for job in jobs]

    def start(self) -> None:
        """Lets them write; the time that the processes take to start is not part of the storm."""
        # A new interpreter looks for this module along our path, on which pytest does not put the repository.
        sys.path.insert(0, str(REPOSITORY))
        try:
            for process in self._processes:
                process.start()
        finally:
            sys.path.remove(str(REPOSITORY))
        self._ready.wait(START_SECONDS)

    def finish(self, seconds: float) -> None:
        """The storm is over: some calm decisions, then everything is delivered.

        Raises:
            AssertionError: a process did not end well within the time.
        """
        self._calm.set()
        deadline = time.monotonic() + seconds
        for process in self._processes:
            process.join(max(0.1, deadline - time.monotonic()))
        codes = [process.exitcode for process in self._processes]
        if any(code != 0 for code in codes):
            raise AssertionError(f"expected writers that end with 0, got {codes}")

    def close(self) -> None:
        """Ends what is left of them."""
        for process in self._processes:
            if process.is_alive():
                process.kill()
                process.join()


def work(job: Job, ready: Barrier, calm: Event) -> None:
    """One process: a thread for each writer."""
    # Training has a machine of its own: its calls must not wait for the processor that the controllers have here.
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    logging.getLogger("dcao").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.ERROR)
    ready.wait(START_SECONDS)
    threads = [threading.Thread(target=write, args=(job, writer, calm), daemon=True) for writer in job.writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def write(job: Job, writer: int, calm: Event) -> None:
    """One writer: decides at its pace until it is calm, a few times more, then delivers and saves its log."""
    log = Log(writer)
    rng = random.Random(f"{job.seed}-{writer}")
    url = job.urls[writer % len(job.urls)]
    session = Session(
        spec_of(writer), run=run_name(writer), project=PROJECT, url=url, deadline=DEADLINE,
        journal_dir=job.folder / "journal",
    )  # fmt: skip
    with httpx.Client(base_url=url, trust_env=False, timeout=2) as other:
        left, declared = CALM_DECISIONS, False
        for observation in observations(job.seed, writer):
            if calm.is_set():
                left -= 1
                session.flush(FLUSH_SECONDS)
            twice = rng.random() < DUPLICATE_SHARE
            before = session.state_dict() if twice and rng.random() < 0.5 else {}
            decision = _decide(session, observation, log)
            # A stranger that names a run before its session has declared it would be another writer.
            declared = declared or (decision is not None and decision.persisted)
            if decision is not None and twice and declared:
                again = observation.model_copy(
                    update={"attempt": session.attempt, "state": before.get("token"), "version": before.get("version")}
                )
                _ask_again(other, session, again, decision, log)
            if left == 0:
                break
            time.sleep(rng.uniform(0.5, 1.5) * job.pace)
    log.delivered = session.flush(FLUSH_SECONDS)
    log.in_process = session.stats.in_process
    session.close()
    log.save(job.folder)


def seconds_without_processor() -> float:
    """Time that this process's threads have spent ready to run and not running; 0 where nobody knows.

    From Linux's scheduler. On a machine as full as one that holds a whole cluster, a thread whose wait is over may not
    run for long, or the thread that has the interpreter's lock may not.
    """
    total = 0
    for task in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            total += int(task.read_text().split()[1])
    return total / 1e9


def _decide(session: Session, observation: Observation, log: Log) -> Decision | None:
    ready, started = seconds_without_processor(), time.perf_counter()
    try:
        decision = session.decide(observation)
    except Exception as error:
        log.raised.append(repr(error))
        return None
    log.waits.append(time.perf_counter() - started)
    if log.waits[-1] > DEADLINE:
        log.starved[len(log.waits) - 1] = seconds_without_processor() - ready
    log.applied.append({"step": observation.step, **answer_of(decision)})
    return decision


def _ask_again(other: httpx.Client, session: Session, again: Observation, first: Decision, log: Log) -> None:
    """The same observation once more, as after a lost answer: with the token, or without, which takes the store.

    Without it only what the store has can be asked for; otherwise it would be the first to hear of the step.
    """
    if again.state is None and not first.persisted:
        return
    path = DECISIONS.format(project=PROJECT, run=session.run)
    try:
        reply = other.post(path, content=again.wire_json(), headers={"content-type": "application/json"})
    except httpx.HTTPError:
        return
    if reply.status_code != 200:
        return
    log.duplicates += 1
    second = answer_of(Decision.model_validate_json(reply.content))
    if second != answer_of(first):
        log.diverging.append(f"step {first.step}: first {answer_of(first)}, then {second}")
