"""Smoothing: one noisy mini-batch must not move a run.

ρ spans orders of magnitude, so it is averaged and tested in the log domain (YellowFin had to do the same). A single
outlier is held; the third in a row is a change of regime and is believed.
"""

import math
from collections.abc import Iterable
from typing import Any

from dcao_proto.message import complete, successor
from dcao_proto.observation import Observation
from dcao_proto.policy.parameters import StageParameters
from dcao_proto.policy.state import WINDOW, PolicyState, Statistics

FLOOR = 1e-3  # of the reference: ln of a vanishing ρ must not drag the average for the rest of the run
MAD_TO_SIGMA = 1.4826
STATISTICS_DECAY = 0.9  # mean age of ten observations


def log_floor(rho: float, rho_ref: float | None) -> float:
    """ln ρ, with ρ raised to a thousandth of the reference."""
    return math.log(max(rho, FLOOR * (rho_ref or 0.0), 1e-300))


def is_outlier(log_rho: float, state: PolicyState, params: StageParameters) -> bool:
    """Hampel's test on ln ρ against the last nine; needs five of them and lets the third outlier in a row pass."""
    if not params.reject_outliers or len(state.window) < 5 or state.outliers >= 2:
        return False
    centre = _median(state.window)
    deviation = MAD_TO_SIGMA * _median(map(abs, map(centre.__sub__, state.window)))
    # 10 %: below that a jump is within the tolerance to which ρ is measured.
    return abs(log_rho - centre) > max(3 * deviation, 0.1)


def _median(values: Iterable[float]) -> float:
    """statistics.median of at least one value, without its checks, which take longer than nine values do."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def smooth(state: PolicyState, params: StageParameters, *, log_rho: float, gamma: float | None) -> dict[str, Any]:
    """What an accepted ln ρ, and γ if it is good, make of the averages. After a change of regime they start anew."""
    fresh = state.outliers >= 2
    past = params.smoothing
    mean = log_rho if fresh or state.log_rho is None else past * state.log_rho + (1 - past) * log_rho
    gap = state.gamma
    if gamma is not None:
        gap = gamma if fresh or gap is None else past * gap + (1 - past) * gamma
    window = (log_rho,) if fresh else (*state.window, log_rho)[-WINDOW:]
    return {"log_rho": mean, "gamma": gap, "window": window, "outliers": 0}


def update_statistics(statistics: Statistics, value: float) -> Statistics:
    """Exponentially weighted mean and variance (West 1979, incremental form); saturates instead of overflowing."""
    if statistics.count == 0:
        return complete(Statistics, {"mean": value, "variance": 0.0, "count": 1})
    gain = max(1 - STATISTICS_DECAY, 1 / (statistics.count + 1))
    delta = value - statistics.mean
    mean = statistics.mean + gain * delta
    variance = (1 - gain) * (statistics.variance + gain * delta * delta)
    if not (math.isfinite(mean) and math.isfinite(variance)):
        return statistics
    return complete(Statistics, {"mean": mean, "variance": variance, "count": successor(statistics.count)})


def remember(state: PolicyState, observation: Observation) -> dict[str, Any]:
    """What every observation changes in the state, used or not: its step and the running statistics."""
    changes: dict[str, Any] = {"step": observation.step}
    if observation.loss is not None:
        changes["loss"] = update_statistics(state.loss, observation.loss)
    if observation.rho is not None:
        changes["rho"] = update_statistics(state.rho, observation.rho)
    return changes
