"""From records to Markdown: means with their standard error, the best of five rates, and how soon."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from dcao_experiments.suites import PEERS
from dcao_experiments.workloads.small import WORKLOADS

Records = Sequence[dict[str, Any]]


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error; 0 of a single value."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.fmean(values), error


def show(values: Sequence[float]) -> str:
    """mean ± standard error; of a single value there is none."""
    mean, error = mean_error(values)
    return f"{mean:.3f} ± {error:.3f}" if len(values) > 1 else f"{mean:.3f}"


def best_rate(records: Records, lower: bool) -> tuple[float, list[dict[str, Any]]]:
    """The rate with the best mean over seeds, and its records."""
    by_rate: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        by_rate[record["rate"]].append(record)
    pick = min if lower else max
    rate = pick(by_rate, key=lambda r: statistics.fmean(x["final"] for x in by_rate[r]))
    return rate, by_rate[rate]


def rated(records: Records, lower: bool) -> tuple[str, list[dict[str, Any]]]:
    """A cell for the best rate, and its records. One at an end of its grid is marked: a better one may lie beyond."""
    rate, chosen = best_rate(records, lower)
    rates = sorted({r["rate"] for r in records})
    mark = ", at the grid's end" if len(rates) > 1 and rate in (rates[0], rates[-1]) else ""
    return f"{show([r['final'] for r in chosen])} ({rate:.4g}{mark})", chosen


def sooner(mine: Records, theirs: Records, lower: bool, *, for_good: bool = False) -> list[float]:
    """Per seed: the share of steps saved until ours is at their final level; -1 where it never is.

    Args:
        for_good: count from where it never falls below that level again. The first look that is there is partly luck:
            of many noisy looks some are above what holds.
    """
    goals = {record["seed"]: record["final"] for record in theirs}
    found = []
    for record in mine:
        if record["seed"] not in goals:
            continue
        goal = goals[record["seed"]]
        there = [(v <= goal if lower else v >= goal) for _, v, *_ in record["looks"]]
        first = there.index(True) if True in there else None
        if for_good:
            last_below = max((i for i, reached in enumerate(there) if not reached), default=-1)
            first = last_below + 1 if last_below + 1 < len(there) else None
        found.append(-1.0 if first is None else 1.0 - record["looks"][first][0] / record["steps"])
    return found


def ranks_of(means: Mapping[str, float], lower: bool) -> dict[str, float]:
    """Places from 1; equals share the mean of their places."""
    order = sorted(means.values(), reverse=not lower)
    return {name: order.index(value) + (order.count(value) + 1) / 2 for name, value in means.items()}


TUNED = ("sgd", "adamw", "muon")
COLUMNS = ["dcao", "dcao-sgd", "dcao-muon", *TUNED, *PEERS, "path-alone", "curvature-alone"]


def final_table(records: Records) -> str:
    """One row a workload: ours, the best cosine, peers, ours with a part taken out; then ranks and how soon."""
    columns = [c for c in COLUMNS if any(r["method"] == c for r in records)]
    lines = [
        "| workload | " + " | ".join(columns) + " | sooner, first look | for good |",
        "|---" * (len(columns) + 3) + "|",
    ]
    ranked = {r["method"] for r in records if "error" not in r} & {"dcao", *PEERS}
    places: dict[str, list[float]] = defaultdict(list)
    saved: dict[bool, list[float]] = {False: [], True: []}
    for name, workload in WORKLOADS.items():
        lower = workload.lower_is_better
        by_method: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for r in records:
            if r["workload"] == name and "error" not in r:
                by_method[r["method"]].append(r)
        if "dcao" not in by_method:
            continue
        cells, means, tuned = [], {}, {}
        for method in columns:
            mine = by_method[method]
            if method in TUNED and mine:
                cell, mine = rated(mine, lower)
                tuned[method] = mine
            else:
                cell = show([r["final"] for r in mine]) if mine else ""
            if mine:
                means[method] = statistics.fmean(r["final"] for r in mine)
            cells.append(cell)
        for for_good, total in saved.items():
            share: list[float] = []
            if tuned:
                best = (min if lower else max)(tuned, key=means.__getitem__)
                share = sooner(by_method["dcao"], tuned[best], lower, for_good=for_good)
            total += share
            cells.append(_percent(share))
        if ranked <= set(means):  # places among fewer would count for more
            for method, place in ranks_of({m: means[m] for m in ranked}, lower).items():
                places[method].append(place)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    said = ", ".join(
        f"{m} {statistics.fmean(p):.1f}" for m, p in sorted(places.items(), key=lambda i: statistics.fmean(i[1]))
    )
    count = max((len(p) for p in places.values()), default=0)
    return "\n".join(
        [*lines, "", f"Mean rank over {count} workloads: {said}.", _sooner_sentence(saved), _cost(records)]
    )


def _percent(shares: Sequence[float]) -> str:
    if not shares:
        return ""
    middle = statistics.median(shares)
    return "never" if middle < 0 else f"{middle:.0%}"


def _sooner_sentence(saved: Mapping[bool, Sequence[float]]) -> str:
    if not saved[False]:
        return ""
    first, good = (f"{_percent(saved[k])}, never in {sum(s < 0 for s in saved[k])}" for k in (False, True))
    return (
        f"Steps saved until at the better cosine's final level, median of {len(saved[False])} pairs: "
        f"first look {first}; for good {good}."
    )


def _cost(records: Records) -> str:
    """What the probes cost: in gradients as counted, and in CPU time of training as measured."""
    parts = []
    for field, what in (("probe_share", "of the gradients, each product counted as one"), ("cpu_share", "of CPU time")):
        shares = [r[field] for r in records if r.get(field)]
        if shares:
            parts.append(f"{statistics.fmean(shares):.1%} {what}, {max(shares):.1%} at most")
    commits = sorted({r["commit"] for r in records if r.get("commit")})
    said = [f"Probes: {'; '.join(parts)}."] if parts else []
    return "\n".join([*said, *([f"Recorded at {', '.join(commits)}."] if commits else [])])


def rate_table(records: Records, tuned: Records = ()) -> str:
    """Rows: workload and method; columns: base rate over the tuned one; then how wide the rates are that end as well.

    Args:
        records: of the suite `trust`.
        tuned: of the suite `final`, for the tuned optimizer that the widths are measured against.
    """
    groups: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in records:
        if "error" not in r:
            groups[r["workload"], r["method"]][round(r["rate"] / _centre(r), 4)].append(r["final"])
    scales = sorted({s for rates in groups.values() for s in rates})
    lines = [
        "| workload | method | tuned | " + " | ".join(f"×{s:g}" for s in scales) + " | octaves within one error |",
        "|---" * (len(scales) + 4) + "|",
    ]
    for (name, method), rates in sorted(groups.items()):
        lower, kind = WORKLOADS[name].lower_is_better, method.partition("-")[0]
        beside = [r for r in tuned if r["workload"] == name and r["method"] == kind and "error" not in r]
        cell = width = ""
        if beside:
            cell, chosen = rated(beside, lower)
            goal, error = mean_error([r["final"] for r in chosen])
            width = f"{octaves(rates, goal + error if lower else goal - error, lower):g}"
        cells = " | ".join(show(rates[s]) if s in rates else "" for s in scales)
        lines.append(f"| {name} | {method} | {cell} | {cells} | {width if method.endswith('-auto') else ''} |")
    return "\n".join(lines)


def octaves(rates: Mapping[float, Sequence[float]], goal: float, lower: bool) -> float:
    """log₂ of the widest stretch of neighbouring rates that all end at the goal or better."""
    widest, since = 0.0, None
    for scale in sorted(rates):
        mean = statistics.fmean(rates[scale])
        if mean <= goal if lower else mean >= goal:
            since = scale if since is None else since
            widest = max(widest, math.log2(scale / since))
        else:
            since = None
    return round(widest, 1)


def _centre(record: dict[str, Any]) -> float:
    workload = WORKLOADS[record["workload"]]
    return (workload.sgd if record["method"].startswith("sgd") else workload.adamw) or 1.0


def plain_table(records: Records) -> str:
    """One row for each setting: ours, and the best of five rates beside it."""
    groups: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for r in records:
        if "error" not in r:
            key = (r["workload"], r["batch"], r["steps"], r["noise"], tuple(sorted(r["options"].items())))
            groups[key][r["method"]].append(r)
    lines = ["| workload | batch | steps | noise | options | ours | tuned cosine |", "|---" * 7 + "|"]
    for key, methods in sorted(groups.items(), key=str):
        lower = WORKLOADS[key[0]].lower_is_better
        mine = [r for m, rs in methods.items() if m.startswith("dcao") or m.endswith("auto") for r in rs]
        theirs = [r for m, rs in methods.items() if m in ("sgd", "adamw") for r in rs]
        beside = ""
        if theirs:
            beside, _ = rated(theirs, lower)
        options = ", ".join(f"{k} = {v:g}" for k, v in key[4])
        ours = show([r["final"] for r in mine]) if mine else ""
        lines.append(f"| {key[0]} | {key[1]} | {key[2]} | {key[3]:g} | {options} | {ours} | {beside} |")
    return "\n".join(lines)
