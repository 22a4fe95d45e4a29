"""Trains many runs, in processes or on a Ray cluster, and goes on where the file of records ends."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dcao_experiments.methods import METHODS
from dcao_experiments.run import Run, revisions, train_quietly
from dcao_experiments.workloads.small import WORKLOADS

Record = dict[str, Any]
Say = Callable[[str], None]


def run_all(
    runs: Iterable[Run], out: Path, jobs: int, *, until: float = math.inf, ray: str | None = None,
    console: Console | None = None,
) -> None:  # fmt: skip
    """Trains what the file does not hold yet, one line a run. A peer that is not installed is named and left out.

    Args:
        runs: what is wanted; equal ones are trained once.
        out: records, one JSON object a line; made with its folder where it is missing.
        jobs: processes of this machine; of a cluster its own cores decide.
        until: no new record is waited for after this `time.time()`.
        ray: address of a cluster, "local" for one of its own; None: processes.
        console: for the progress; standard error if absent.

    Raises:
        OSError: the file cannot be written.
        ModuleNotFoundError: `ray` was asked for and is not installed.
    """
    console = console or Console(stderr=True)
    recorded = read(out)
    todo = wanted(runs, recorded, console.print)
    console.print(f"{len(recorded)} recorded, {len(todo)} to train, {_estimate(todo, recorded, jobs)}")
    if not todo:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    _end_line(out)
    trained = _on_processes(todo, jobs) if ray is None else _on_ray(todo, ray)
    with out.open("a") as file, _progress(console) as progress:
        bar = progress.add_task("training", total=len(todo), left="")
        for n, record in enumerate(trained, 1):
            _write(file, record)
            recorded.append(record)
            left = _estimate(todo[n:], recorded, jobs)
            what = record.get("error") or f"{record['final']:.4f}"
            progress.console.print(f"{record['workload']} {record['method']} {record['seed']}: {what}")
            progress.update(bar, completed=n, left=left)
            if time.time() > until:
                console.print("stopped by its time limit; the same command goes on")
                return


def wanted(runs: Iterable[Run], recorded: Sequence[Record], say: Say = print) -> list[Run]:
    """Those that are not recorded, each once, without peers that are not installed; these are named."""
    done = {record["key"] for record in recorded if "error" not in record}
    todo = list({run.key(): run for run in runs if run.key() not in done}.values())
    missing = {METHODS[run.method].package for run in todo if not METHODS[run.method].installed()}
    for package in sorted(filter(None, missing)):
        say(f"left out: {package} is not installed; pip install --no-deps {package}")
    return [run for run in todo if METHODS[run.method].installed()]


def _estimate(todo: Sequence[Run], recorded: Sequence[Record], jobs: int) -> str:
    """How long it will take, from what the same workload and method took, or else what any run did."""
    known: dict[Any, list[float]] = defaultdict(list)
    for record in recorded:
        if "seconds" in record:
            for kind in ((record["workload"], record["method"]), record["workload"], None):
                known[kind].append(record["seconds"])
    if not known:
        return "no estimate yet"
    each = [
        statistics.fmean(known.get((run.workload, run.method)) or known.get(run.workload) or known[None])
        for run in todo
    ]
    return f"about {sum(each) / max(jobs, 1) / 60:.0f} min left"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"), console=console,
    )  # fmt: skip


def end_with_parent() -> None:
    """Ends this process when the one that started it ends, however that happened: nobody is left to record for."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()  # a pipe that the system closes, also for one that was killed
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_processes(todo: Sequence[Run], jobs: int) -> Iterator[Record]:
    """From a pool of processes that end with this one, however it ends."""
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited: a run has one core, so that as many run as there are
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, end_with_parent, maxtasksperchild=50) as pool:
        yield from pool.imap_unordered(train_quietly, todo)


def _on_ray(todo: Sequence[Run], address: str) -> Iterator[Record]:
    """From a Ray cluster, one core a run; as many wait there as it has cores, so that a stop leaves little undone."""
    import ray

    ray.init(address=None if address == "local" else address, log_to_driver=False, include_dashboard=False)
    try:
        task = ray.remote(num_cpus=1, max_retries=3)(train_quietly)
        waiting = iter(todo)
        ahead = 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        running = [task.remote(run) for run, _ in zip(waiting, range(ahead), strict=False)]
        while running:
            (ready, *_), running = ray.wait(running)
            running += [task.remote(run) for run in _one(waiting)]
            yield ray.get(ready)
    finally:
        ray.shutdown()


def _one(waiting: Iterator[Run]) -> list[Run]:
    return [run for run in (next(waiting, None),) if run is not None]


def _write(file: TextIO, record: Record) -> None:
    file.write(json.dumps(record) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _end_line(out: Path) -> None:
    """A record that was cut short keeps its line to itself."""
    if out.exists() and not out.read_bytes().endswith(b"\n"):
        with out.open("a") as file:
            file.write("\n")


def read(out: Path) -> list[Record]:
    """The records of a file, none if there is no file: of each run the newest, and no failure that was made good.

    Left out: a line that was cut short when a run was killed, records of what a method or a workload was before.
    """
    found: dict[str, Record] = {}
    for line in out.read_text().splitlines() if out.exists() else []:
        try:
            record = json.loads(line)
            identity = json.loads(record["key"])
        except (ValueError, KeyError, TypeError):
            continue
        if record["method"] not in METHODS or record["workload"] not in WORKLOADS:
            continue
        known = {name: number for name, number in identity.items() if name in ("revision", "workload_revision")}
        if known != revisions(record["workload"], record["method"]):
            continue
        if "error" not in record or "error" in found.get(record["key"], {"error": ""}):
            found[record["key"]] = record
    return list(found.values())
