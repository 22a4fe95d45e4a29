"""Steps per second with the hook attached and a probe every 100 steps, beside without, in each framework's loop.

    python -m benchmarks.frameworks            # in the environment of `make test-frameworks`; on a quiet machine
    python -m benchmarks.frameworks skorch --repeats 3

One row for each framework. With and without take turns, so that a load on the machine meets both. Shown are the
median of each and the median of the ratios of neighbours, by the wall and by processor time, which a load moves least.
Rows that are in the file of results are not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch
from benchmarks.frameworks.loops import LOOPS, Job, quiet

WARM_UP = 100  # steps in which the first seven probes come, which are lent (docs/probe.md)
OPTIONS = {"run": "speed", "probe_interval": 100, "overhead": None}


def seconds(name: str, steps: int, *, ours: bool) -> tuple[float, float]:
    """Of so many updates after the warm-up, by the wall and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(WARM_UP + steps + 1, Path(folder))
        LOOPS[name](job, {**OPTIONS, "journal_dir": folder} if ours else None)
    began, ended = job.times[WARM_UP], job.times[WARM_UP + steps]
    return ended[0] - began[0], ended[1] - began[1]


def row(name: str, steps: int, repeats: int) -> dict[str, object]:
    """The medians of a framework."""
    pairs = []
    for turn in range(repeats):
        order = (False, True) if turn % 2 else (True, False)
        found = {ours: seconds(name, steps, ours=ours) for ours in order}
        pairs.append((found[False], found[True]))
    median = statistics.median
    return {
        "framework": name,
        "without": median(steps / plain[0] for plain, _ in pairs),
        "with": median(steps / ours[0] for _, ours in pairs),
        "cost": median(ours[0] / plain[0] - 1.0 for plain, ours in pairs),
        "cpu": median(ours[1] / plain[1] - 1.0 for plain, ours in pairs),
        "steps": steps,
        "repeats": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frameworks", nargs="*", default=list(LOOPS), help="of " + ", ".join(LOOPS))
    parser.add_argument("--steps", type=int, default=400, help="measured in a training, after the warm-up")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("out/frameworks.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.touch()
    rows = {found["framework"]: found for found in map(json.loads, arguments.out.read_text().splitlines())}
    print("| framework | steps/s without | with | cost | of the processor |\n|---|---|---|---|---|")
    for name in arguments.frameworks:
        if name not in rows:
            rows[name] = row(name, arguments.steps, arguments.repeats)
            with arguments.out.open("a") as file:
                file.write(json.dumps(rows[name]) + "\n")
        found = rows[name]
        shown = f"{found['without']:.0f} | {found['with']:.0f} | {found['cost']:+.1%} | {found['cpu']:+.1%}"
        print(f"| {name} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
