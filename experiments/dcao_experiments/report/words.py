"""What was found, in sentences; the same form whether it is good or bad for us."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping

from dcao_experiments.report.intervals import Effect, overall
from dcao_experiments.report.measures import GOALS, Measured, baseline_of, score

All = Mapping[str, Mapping[str, Measured]]
OURS = ("dcao", "sgd-auto", "adamw-auto", "sgd-guard", "adamw-guard", "law")
UNIT = "points of accuracy, or percent of a loss"


def said(effect: Effect) -> str:
    """+1.20 [0.40, 2.00], 9 pairs."""
    if effect.pairs < 3:
        return f"{effect.mean:+.2f}, {effect.pairs} pairs, too few for an interval"
    return f"{effect.mean:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}], {effect.pairs} pairs"


def verdict(effect: Effect) -> str:
    """Better, worse, or not told apart."""
    if not effect.clear:
        return "is not told apart from"
    return "is better than" if effect.mean > 0 else "is worse than"


def findings(found: All) -> Iterator[str]:
    """One sentence for each of ours against each of the others that was trained on the same workloads and seeds."""
    others = sorted({name for methods in found.values() for name in methods} - set(OURS))
    for mine in OURS:
        for theirs in others:
            effect = overall(found, mine, theirs)
            if effect is not None:
                yield f"`{mine}` {verdict(effect)} `{theirs}`: {said(effect)} ({UNIT})."


def ranking(found: All) -> str:
    """Methods by their score, those with one setting for all workloads marked."""
    places = sorted(score(found).items(), key=lambda pair: -pair[1])
    return ", ".join(f"`{name}` {value:.2f}" for name, value in places) or "no method was trained on every workload"


def claims(found: All, mine: str = "dcao") -> Iterator[tuple[str, str, str]]:
    """Each expectation of the proposal's §3, what is found here, and whether it holds."""
    there = {w: m for w, m in found.items() if mine in m and baseline_of(m)}
    pairs = [(m[mine], m[baseline_of(m)]) for m in there.values()]
    saved = [1 - a.steps[GOALS[-1]] / b.steps[GOALS[-1]] for a, b in pairs if b.steps[GOALS[-1]] < float("inf")]
    if saved:
        middle = statistics.median(max(s, -1.0) for s in saved)
        yield (
            "10–20 % fewer epochs",
            f"{middle:+.0%} steps to 99 % of the tuned cosine's way, median",
            _holds(middle >= 0.1),
        )
    for claim, lower, least in (("+0.5–1.0 % accuracy", False, 0.5), ("2–3 % lower perplexity", True, 2.0)):
        gains = [_gain(a, b) for a, b in pairs if a.lower_is_better is lower]
        if gains:
            what = "percent of perplexity" if lower else "points"
            yield claim, f"{statistics.fmean(gains):+.2f} {what}, mean", _holds(statistics.fmean(gains) >= least)
    quiet = [a.log_rho_variance / b.log_rho_variance for a, b in pairs if a.log_rho_variance and b.log_rho_variance]
    if quiet:
        ratio = statistics.median(quiet)
        yield "reduced oscillations of ρ", f"variance of ln ρ × {ratio:.2f}, median", _holds(ratio < 1)
    if pairs:
        cost = statistics.fmean(a.overhead for a, _ in pairs)
        yield "overhead under 7 %", f"{cost:.1%} of the gradients, mean", _holds(cost < 0.07)


def _gain(mine: Measured, theirs: Measured) -> float:
    """Points of accuracy; of a language model percent of perplexity."""
    if mine.lower_is_better:
        return 100 * (1 - math.exp(mine.mean - theirs.mean))
    return 100 * (mine.mean - theirs.mean)


def _holds(true: bool) -> str:
    return "yes" if true else "no"
