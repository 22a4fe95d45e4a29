"""The fault proof: `python -m tests.faults.storm --seconds 600 --seed 1`.

Two controllers, a Redis and every connection between them are killed, paused, delayed, cut and garbled at random, from
a seed, under 32 writers with the real client. Afterwards an oracle checks every record. Exits 1 on any violation.

All of it shares one machine: where `processors_busy` is far above a half, a call may be late for lack of a processor.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.cluster import REPLICAS, cluster
from tests.faults.injector import Injector
from tests.faults.oracle import Verdict, failures_in, judge, read_histories, stream_lengths
from tests.faults.schedule import schedule
from tests.faults.writers import FLUSH_SECONDS, Job, Writers, load_logs


@dataclass(frozen=True)
class Plan:
    """How hard the storm is."""

    seed: int = 1
    seconds: float = 600
    writers: int = 32
    processes: int = 32
    """Each training run is a process of its own."""
    pace: float = 0.12
    """Seconds between two decisions of a writer, on average, besides the decision itself."""
    gap: float = 3.0
    """Seconds between two faults, on average."""


@dataclass(frozen=True)
class Outcome:
    """What the storm did and what the oracle says."""

    plan: Plan
    faults: dict[str, int]
    lost_bytes: int
    verdict: Verdict
    seconds: float
    busy: float | None
    """Share of the processor time that was used during the storm, by whatever; None where nobody counts it."""

    def figures(self) -> dict[str, Any]:
        """For people and for the record."""
        return {
            "seed": self.plan.seed,
            "seconds": round(self.seconds, 1),
            "processors_busy": None if self.busy is None else round(self.busy, 2),
            "writers": self.plan.writers,
            "faults": sum(self.faults.values()),
            "faults_by_kind": dict(sorted(self.faults.items())),
            "redis_bytes_lost_in_crashes": self.lost_bytes,
            "decisions": self.verdict.decisions,
            "records": self.verdict.records,
            "decided_in_process": self.verdict.in_process,
            "backfilled": self.verdict.backfilled,
            "steps_asked_twice": self.verdict.duplicates_asked,
            "calls_past_deadline_for_lack_of_processor": self.verdict.late
            - self.verdict.violations["past the deadline"],
            "longest_call_ms": round(self.verdict.longest_wait * 1000, 1),
            "violations": dict(self.verdict.violations),
            "shown": self.verdict.shown,
        }


def storm(plan: Plan, folder: Path) -> Outcome:
    """Runs one storm in a folder, which keeps the logs."""
    numbers = list(range(plan.writers))
    with cluster(folder, plan.seed) as made:
        jobs = [
            Job(plan.seed, numbers[part :: plan.processes], [made.url], plan.pace, folder)
            for part in range(plan.processes)
        ]
        writers = Writers(jobs)
        injector = Injector(made)
        try:
            writers.start()
            started, before = time.monotonic(), processor_time()
            injector.carry_out(schedule(plan.seed, plan.seconds, plan.gap, REPLICAS), plan.seconds)
            seconds, after = time.monotonic() - started, processor_time()
            writers.finish(2 * FLUSH_SECONDS)
        finally:
            writers.close()
        direct = f"http://127.0.0.1:{made.ports[0]}"
        verdict = judge(load_logs(folder), read_histories(direct, numbers), plan.seed)
        entries = stream_lengths(made.redis_port)
        if entries != verdict.records:
            verdict.accuse("streams", f"Redis has {entries} entries, the API gave {verdict.records}")
        for text in failures_in(process.log for process in made.controllers):
            verdict.accuse("failed inside", text)
    return Outcome(plan, dict(injector.injected), injector.lost_bytes, verdict, seconds, busy_share(before, after))


def processor_time() -> tuple[int, int] | None:
    """Ticks of all processors so far, used and idle, as Linux counts them."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return None
    idle = fields[3] + fields[4]
    return sum(fields) - idle, idle


def busy_share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """The used share of the ticks between."""
    if before is None or after is None:
        return None
    used, idle = after[0] - before[0], after[1] - before[1]
    return used / max(1, used + idle)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm", description=__doc__)
    plan = Plan()
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--seconds", type=float, default=plan.seconds)
    parser.add_argument("--writers", type=int, default=plan.writers)
    parser.add_argument("--processes", type=int, default=plan.processes)
    parser.add_argument("--pace", type=float, default=plan.pace, help="seconds between a writer's decisions")
    parser.add_argument("--gap", type=float, default=plan.gap, help="seconds between faults, on average")
    parser.add_argument("--keep", type=Path, help="folder for the logs; a temporary one that is removed if absent")
    arguments = vars(parser.parse_args())
    keep = arguments.pop("keep")
    with tempfile.TemporaryDirectory() as temporary:
        outcome = storm(Plan(**arguments), keep or Path(temporary))
    print(json.dumps(outcome.figures(), indent=2))
    return 0 if outcome.verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
