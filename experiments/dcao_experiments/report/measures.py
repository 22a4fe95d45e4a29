"""What is measured of a method on a workload: the proposal's §2.6, from records."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcao_experiments.methods import METHODS
from dcao_experiments.report.tables import best_rate
from dcao_experiments.workloads.small import WORKLOADS

Records = Sequence[dict[str, Any]]
LOST = 99.0  # what a run records whose loss is not finite
GOALS = (0.9, 0.99)  # of the way from the first look to the baseline's end


@dataclass(frozen=True)
class Measured:
    """A method on a workload, at its best rate where it has one.

    Attributes:
        finals: the metric at the end, by seed.
        steps, seconds: share of the run's steps, and CPU seconds of training, until it is for good at 90 % and 99 % of
            the way that the baseline made; by goal, medians over seeds; infinite where it is not reached.
        loss_variance: of the batches' losses in the second half, median over seeds.
        past_the_edge: share of decisions with an edge ratio above 1, mean over seeds; None where nothing was measured.
        overhead: gradients spent on measuring, over those of training.
    """

    workload: str
    method: str
    rate: float
    finals: Mapping[int, float]
    steps: Mapping[float, float]
    seconds: Mapping[float, float]
    loss_variance: float | None
    log_rho_variance: float | None
    past_the_edge: float | None
    overhead: float

    @property
    def lower_is_better(self) -> bool:
        """The metric is a loss."""
        return WORKLOADS[self.workload].lower_is_better

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.finals.values())

    @property
    def spread(self) -> float:
        """Sample deviation over seeds; 0 of one."""
        return statistics.stdev(self.finals.values()) if len(self.finals) > 1 else 0.0


def measured(records: Records) -> dict[str, dict[str, Measured]]:
    """By workload, then method. Where no tuned cosine was trained, the way is that of the best run there is."""
    by: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if "error" not in record:
            by[record["workload"]][record["method"]].append(record)
    found: dict[str, dict[str, Measured]] = {}
    for workload, methods in by.items():
        lower = WORKLOADS[workload].lower_is_better
        chosen = {name: best_rate(rs, lower)[1] for name, rs in methods.items()}
        base = baseline(chosen, lower)
        found[workload] = {name: _measured(workload, name, rs, chosen[base]) for name, rs in chosen.items()}
    return found


def baseline(chosen: Mapping[str, Records], lower: bool) -> str:
    """The better of the tuned cosines; the best method where there is none."""
    among = [name for name in ("sgd", "adamw") if name in chosen] or list(chosen)
    return (min if lower else max)(among, key=lambda name: statistics.fmean(r["final"] for r in chosen[name]))


def _measured(workload: str, method: str, mine: Records, base: Records) -> Measured:
    lower = WORKLOADS[workload].lower_is_better
    goals = {g: _goal(base, g, lower) for g in GOALS}
    reached = {g: [_reached(r, goal, lower) for r in mine] for g, goal in goals.items()}
    return Measured(
        workload, method, mine[0]["rate"], {r["seed"]: r["final"] for r in mine},
        {g: statistics.median(s for s, _ in found) for g, found in reached.items()},
        {g: statistics.median(t for _, t in found) for g, found in reached.items()},
        _middle(r.get("loss_variance") for r in mine), _middle(r.get("log_rho_variance") for r in mine),
        _middle(r.get("past_the_edge") for r in mine), statistics.fmean(r.get("probe_share", 0.0) for r in mine),
    )  # fmt: skip


def _middle(values: Any) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None


def _goal(base: Records, share: float, lower: bool) -> float:
    """That share of the way from the first look to the end, mean over seeds."""
    first, last = (statistics.fmean(r["looks"][i][1] for r in base) for i in (0, -1))
    return first + share * (last - first) if (last < first) == lower else last


def _reached(record: dict[str, Any], goal: float, lower: bool) -> tuple[float, float]:
    """Share of the steps, and CPU seconds, from which on the run is at the goal for good."""
    there = [(v <= goal if lower else v >= goal) for _, v, *_ in record["looks"]]
    if not there[-1]:
        return math.inf, math.inf
    first = len(there) - next((i for i, held in enumerate(reversed(there)) if not held), len(there))
    step, _, *seconds = record["looks"][first]
    return step / record["steps"], seconds[0] if seconds else math.inf


def score(all_measured: Mapping[str, Mapping[str, Measured]], longest: float = 4.0) -> dict[str, float]:
    """The area under each method's performance profile, 0 … 1: one number over all workloads.

    Of each workload the time is the share of steps to 99 % of the tuned baseline's way; a method's ratio is its time
    over the fastest method's, and its profile says on which share of the workloads the ratio is at most τ. The area is
    over τ from 1 to `longest` (Dahl et al. 2023, "Benchmarking neural network training algorithms", §4.2).
    Only methods that were trained on every workload are scored.
    """
    goal = GOALS[-1]
    everywhere = set.intersection(*(set(methods) for methods in all_measured.values())) if all_measured else set()
    ratios: dict[str, list[float]] = {name: [] for name in everywhere}
    for methods in all_measured.values():
        fastest = min((methods[name].steps[goal] for name in everywhere), default=math.inf)
        for name in everywhere:
            time = methods[name].steps[goal]
            ratios[name].append(time / fastest if math.isfinite(time) else math.inf)
    return {
        name: statistics.fmean(max(longest - max(ratio, 1.0), 0.0) / (longest - 1) for ratio in found)
        for name, found in ratios.items()
    }


def one_setting(name: str) -> bool:
    """Whether one setting served every workload, as AlgoPerf's self-tuning rules ask."""
    return not METHODS[name].tuned


def baseline_of(methods: Mapping[str, Measured]) -> str:
    """The better of the tuned cosines on a workload; "" where none was trained."""
    among = [methods[name] for name in ("sgd", "adamw") if name in methods]
    if not among:
        return ""
    return (min if among[0].lower_is_better else max)(among, key=lambda m: m.mean).method
