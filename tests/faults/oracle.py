"""Checks every record after a storm: nothing lost, doubled or decided in two ways, and nobody kept waiting."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
from redis import Redis

from dcao_proto import HistoryPage, Record
from dcao_proto.paths import DECISIONS
from tests.faults.workload import PROJECT, answer_of, run_name, undisturbed
from tests.faults.writers import DEADLINE, Log

GRACE = 0.05
MOST_SHOWN = 5


@dataclass
class Verdict:
    """Counts, and the first few of each kind of fault in words."""

    decisions: int = 0
    records: int = 0
    duplicates_asked: int = 0
    in_process: int = 0
    backfilled: int = 0
    longest_wait: float = 0.0
    late: int = 0
    """Calls past the deadline and its grace, those included that only lacked a processor."""
    violations: Counter[str] = field(default_factory=Counter)
    shown: dict[str, list[str]] = field(default_factory=dict)

    def accuse(self, kind: str, text: str, count: int = 1) -> None:
        """Notes a violation."""
        self.violations[kind] += count
        if len(self.shown.setdefault(kind, [])) < MOST_SHOWN:
            self.shown[kind].append(text)

    @property
    def clean(self) -> bool:
        """Nothing was violated."""
        return not self.violations


def judge(logs: Iterable[Log], histories: dict[int, list[Record]], seed: int) -> Verdict:
    """Compares what each writer applied, what the history has, and what the law alone decides.

    Args:
        logs: of every writer.
        histories: the records of each writer's run, in the order in which the controller gave them.
        seed: of the workload.
    """
    verdict = Verdict()
    for log in logs:
        verdict.decisions += len(log.applied)
        verdict.duplicates_asked += log.duplicates
        verdict.in_process += log.in_process
        _judge_calls(verdict, log)
        _judge_law(verdict, log, seed)
        _judge_history(verdict, log, histories[log.writer])
    return verdict


def _judge_calls(verdict: Verdict, log: Log) -> None:
    name = run_name(log.writer)
    verdict.longest_wait = max(verdict.longest_wait, *log.waits, 0.0)
    for text in log.raised:
        verdict.accuse("raised into training", f"{name}: {text}")
    for number, wait in enumerate(log.waits):
        if wait <= DEADLINE + GRACE:
            continue
        starved = log.starved.get(number, 0.0)
        verdict.late += 1
        if wait - starved > DEADLINE + GRACE:
            verdict.accuse("past the deadline", f"{name}: {wait:.3f} s, of them {starved:.3f} s without a processor")
    for text in log.diverging:
        verdict.accuse("diverging replies", f"{name}: {text}")
    if not log.delivered:
        verdict.accuse("not delivered", f"{name}: the session still held decisions at the end")


def _judge_law(verdict: Verdict, log: Log, seed: int) -> None:
    """Bit for bit what an undisturbed run decides."""
    for applied, right in zip(log.applied, undisturbed(seed, log.writer), strict=False):
        expected = {"step": right.step, **answer_of(right)}
        if applied != expected:
            verdict.accuse("not what the law decides", f"{run_name(log.writer)}: {applied}, expected {expected}")


def _judge_history(verdict: Verdict, log: Log, records: list[Record]) -> None:
    name = run_name(log.writer)
    verdict.records += len(records)
    verdict.backfilled += sum(record.origin == "backfill" for record in records)
    for record in records:
        if record.deviates:
            verdict.accuse("called deviating", f"{name}: step {record.step}")
    _judge_order(verdict, name, records)
    stored = {record.step: {"step": record.step, **answer_of(record.decision)} for record in records}
    for applied in log.applied:
        found = stored.pop(applied["step"], None)
        if found is None:
            verdict.accuse("lost", f"{name}: step {applied['step']}")
        elif found != applied:
            verdict.accuse("diverging history", f"{name}: applied {applied}, recorded {found}")
    for step in stored:
        verdict.accuse("never applied", f"{name}: step {step}")


def _judge_order(verdict: Verdict, name: str, records: list[Record]) -> None:
    places = [(record.attempt, record.step) for record in records]
    for before, after in pairwise(places):
        if after <= before:
            verdict.accuse("out of order", f"{name}: {after} after {before}")
    for place, times in Counter(places).items():
        if times > 1:
            verdict.accuse("doubled", f"{name}: {place} is there {times} times", times - 1)
    for step, times in Counter(record.step for record in records).items():
        if times > 1:
            verdict.accuse("doubled", f"{name}: step {step} is there in {times} attempts", times - 1)


def read_histories(url: str, writers: Iterable[int]) -> dict[int, list[Record]]:
    """Every record of every writer's run, over the API, page by page."""
    histories: dict[int, list[Record]] = {}
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        for writer in writers:
            records: list[Record] = []
            cursor: str | None = None
            while True:
                parameters = {"limit": "1000"} | ({"after": cursor} if cursor else {})
                reply = client.get(DECISIONS.format(project=PROJECT, run=run_name(writer)), params=parameters)
                reply.raise_for_status()
                page = HistoryPage.model_validate_json(reply.content)
                records.extend(page.records)
                cursor = page.next_cursor
                if cursor is None:
                    break
            histories[writer] = records
    return histories


def stream_lengths(redis_port: int) -> int:
    """Entries of all history streams in Redis itself, so that the API alone does not vouch for itself."""
    with Redis(port=redis_port) as redis:
        return sum(int(redis.xlen(key)) for key in redis.scan_iter(match="*:h:*", _type="stream"))


def failures_in(logs: Iterable[Path]) -> list[str]:
    """Lines of the controllers' logs that speak of a bug rather than of a fault: a request that failed inside."""
    return [
        f"{path.name}: {line[:120]} … {line[-600:]}"
        for path in logs
        for line in path.read_text(errors="replace").splitlines()
        if '"request failed"' in line or (line.startswith("Traceback") or "Task exception was never retrieved" in line)
    ]
