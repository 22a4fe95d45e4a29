"""From records to Markdown: means with their standard error, the best of five rates, and how soon."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from benchmarks.law.suites import PEERS
from benchmarks.law.workloads import WORKLOADS

Records = Sequence[dict[str, Any]]


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error; 0 of a single value."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.fmean(values), error


def show(values: Sequence[float]) -> str:
    """mean ± standard error."""
    mean, error = mean_error(values)
    return f"{mean:.3f} ± {error:.3f}"


def best_rate(records: Records, lower: bool) -> tuple[float, list[dict[str, Any]]]:
    """The rate with the best mean over seeds, and its records."""
    by_rate: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        by_rate[record["rate"]].append(record)
    pick = min if lower else max
    rate = pick(by_rate, key=lambda r: statistics.fmean(x["final"] for x in by_rate[r]))
    return rate, by_rate[rate]


def sooner(mine: Records, theirs: Records, lower: bool) -> list[float]:
    """Per seed: the share of steps saved until ours is at their final level for good; negative where it never is."""
    goals = {record["seed"]: record["final"] for record in theirs}
    found = []
    for record in mine:
        goal, steps = goals.get(record["seed"]), record["steps"]
        if goal is None:
            continue
        reached = next((s for s, v in record["looks"] if (v <= goal if lower else v >= goal)), None)
        found.append(1 - reached / steps if reached is not None else -1.0)
    return found


def final_table(records: Records) -> str:
    """One row a workload: ours, the best cosine, peers, ours with a part taken out; then ranks and how soon."""
    columns = ["dcao", "dcao-sgd", "sgd", "adamw", *PEERS, "path-alone", "curvature-alone"]
    lines = ["| workload | " + " | ".join(columns) + " | sooner |", "|---" * (len(columns) + 2) + "|"]
    ranks: dict[str, list[int]] = defaultdict(list)
    saved: list[float] = []
    for name, workload in WORKLOADS.items():
        here = [r for r in records if r["workload"] == name and "error" not in r]
        cells, means, tuned = [], {}, {}
        for method in columns:
            mine = [r for r in here if r["method"] == method]
            if not mine:
                cells.append("")
                continue
            rate = ""
            if method in ("sgd", "adamw"):
                chosen, mine = best_rate(mine, workload.lower_is_better)
                tuned[method] = mine
                rate = f" ({chosen:.4g})"
            means[method] = statistics.fmean(r["final"] for r in mine)
            cells.append(show([r["final"] for r in mine]) + rate)
        if "dcao" not in means:
            continue
        share = [1.0]
        if tuned:
            pick = min if workload.lower_is_better else max
            best = pick(tuned, key=lambda m: means[m])
            share = sooner([r for r in here if r["method"] == "dcao"], tuned[best], workload.lower_is_better)
            saved += share
        order = sorted(means, key=lambda m: means[m], reverse=not workload.lower_is_better)
        for place, method in enumerate([m for m in order if m in ("dcao", *PEERS)], 1):
            ranks[method].append(place)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {statistics.median(share):.0%} |")
    said = ", ".join(
        f"{m} {statistics.fmean(p):.1f}" for m, p in sorted(ranks.items(), key=lambda i: statistics.fmean(i[1]))
    )
    return "\n".join([*lines, "", f"Mean rank: {said}.", _sooner_sentence(saved), _cost(records)])


def _sooner_sentence(saved: Sequence[float]) -> str:
    if not saved:
        return ""
    never = sum(s < 0 for s in saved)
    return (
        f"At the tuned cosine's final level after {statistics.median(saved):.0%} fewer steps in the median of "
        f"{len(saved)} pairs; never in {never}."
    )


def _cost(records: Records) -> str:
    shares = [r["probe_share"] for r in records if r.get("probe_share")]
    return (
        f"Probes: {statistics.fmean(shares):.1%} of the gradients on average, {max(shares):.1%} at most."
        if shares
        else ""
    )


def rate_table(records: Records) -> str:
    """Rows: workload and method; columns: base rate over the tuned one."""
    groups: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in records:
        if "error" in r:
            continue
        workload = WORKLOADS[r["workload"]]
        centre = workload.sgd if r["method"].startswith("sgd") else workload.adamw
        groups[r["workload"], r["method"]][round(r["rate"] / (centre or 1.0), 4)].append(r["final"])
    scales = sorted({s for rates in groups.values() for s in rates})
    lines = ["| workload | method | " + " | ".join(f"×{s:g}" for s in scales) + " |", "|---" * (len(scales) + 2) + "|"]
    for (name, method), rates in sorted(groups.items()):
        lines.append(
            f"| {name} | {method} | " + " | ".join(show(rates[s]) if s in rates else "" for s in scales) + " |"
        )
    return "\n".join(lines)


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
            rate, chosen = best_rate(theirs, lower)
            beside = f"{show([r['final'] for r in chosen])} ({rate:.4g})"
        options = ", ".join(f"{k} = {v:g}" for k, v in key[4])
        ours = show([r["final"] for r in mine]) if mine else ""
        lines.append(f"| {key[0]} | {key[1]} | {key[2]} | {key[3]:g} | {options} | {ours} | {beside} |")
    return "\n".join(lines)
