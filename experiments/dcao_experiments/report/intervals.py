"""Paired differences with their interval: the same seed and workload, with and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

from dcao_experiments.report.measures import Measured

LEVEL = 0.95
RESAMPLES = 9999


@dataclass(frozen=True)
class Effect:
    """A mean paired difference, positive where the first is better, and its bootstrap interval.

    Attributes:
        low, high: bounds of the interval; equal to the mean where there are fewer than three pairs.
    """

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.pairs >= 3 and (self.low > 0 or self.high < 0)


def effect(differences: Sequence[float]) -> Effect:
    """The mean difference and its percentile bootstrap interval (Efron & Tibshirani 1993, §13.3; scipy's).

    Raises:
        ValueError: there are no pairs.
    """
    if not differences:
        raise ValueError("expected at least one pair; got none")
    values = np.asarray(differences, dtype=float)
    mean = float(values.mean())
    if len(values) < 3 or float(np.ptp(values)) == 0.0:
        return Effect(mean, mean, mean, len(values))
    found = bootstrap(
        (values,), np.mean, confidence_level=LEVEL, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Effect(mean, float(found.low), float(found.high), len(values))


def differences(mine: Measured, theirs: Measured) -> list[float]:
    """By seed, in percent of the others' mean (points of a loss) or in points of accuracy; positive: mine is better."""
    both = sorted(set(mine.finals) & set(theirs.finals))
    if mine.lower_is_better:
        return [100 * (theirs.finals[s] - mine.finals[s]) / abs(theirs.mean) for s in both]
    return [100 * (mine.finals[s] - theirs.finals[s]) for s in both]


def overall(all_measured: Mapping[str, Mapping[str, Measured]], mine: str, theirs: str) -> Effect | None:
    """Over all pairs of workload and seed that both were trained on; None where there are none."""
    found = [
        d
        for methods in all_measured.values()
        if mine in methods and theirs in methods
        for d in differences(methods[mine], methods[theirs])
    ]
    return effect(found) if found else None
