"""Reference: the curvature at which a policy leaves the values alone.

Given by the user, calibrated as the median of the first accepted probes, or taken from the edge of stability. A static
reference under a decaying schedule decays the learning rate twice: the edge rises as η₀ falls, ρ follows it, and reads
as "too sharp". `schedule` scales the reference with the edge; `edge` is the edge.
"""

import math
from statistics import median
from typing import Any, NamedTuple

from dcao_proto.observation import Observation
from dcao_proto.optimizers import OptimizerName, stability_threshold, stochastic_threshold
from dcao_proto.policy.parameters import StageParameters
from dcao_proto.policy.state import PolicyState

EDGES = ("edge", "nearest_edge")
TINY, HUGE = 1e-300, 1e300  # a reference is divided by and multiplied with; at the ends it stays a number


class Signal(NamedTuple):
    """What the law looks at: a curvature, and the value of η times it at which the run becomes unstable."""

    value: float
    threshold: float | None
    by_batch: bool = False  # the curvature is that along the batch's gradient


def signal(
    observation: Observation, params: StageParameters, optimizer: OptimizerName, momentum: float
) -> Signal | None:
    """ρ against its own edge; for `nearest_edge` the nearer of the two edges, in units in which either lies at η·x = 1.

    In full-batch training λ₁ comes first to its threshold 2(1+β), in small-batch training batch sharpness to 2(1−β),
    while the other says that there is room.
    """
    rho, threshold = observation.rho, stability_threshold(optimizer, momentum)
    if rho is None:
        return None
    if params.reference != "nearest_edge" or threshold is None:
        return Signal(rho, threshold)
    stochastic = stochastic_threshold(optimizer, momentum)
    nearest = rho / threshold
    if observation.batch_sharpness is None or stochastic is None:
        return Signal(nearest, 1.0)
    batch = min(observation.batch_sharpness / stochastic, HUGE)
    return Signal(max(nearest, batch), 1.0, by_batch=batch > nearest)


class Reference(NamedTuple):
    """ρ_ref and γ_ref for this decision; None while they are not known."""

    rho: float | None
    gamma: float | None


def calibrate(
    state: PolicyState, params: StageParameters, *, step: int, rho: float, gamma: float, base_lr: float
) -> dict[str, Any]:
    """What (ρ, γ) changes in the state: they are collected until the references that are not given can be taken.

    Probes before `warmup_steps` and those with ρ ≤ 0 do not count. The last `calibration_probes` must agree within
    `calibration_spread` in ln ρ; a curvature that never settles is taken as it is after four times as many.
    """
    rho_ref = params.rho_ref or state.rho_ref
    gamma_ref = params.gamma_ref or state.gamma_ref
    known = params.reference in EDGES or rho_ref is not None
    if (known and gamma_ref is not None) or step < params.warmup_steps or rho <= 0:
        return {}
    calibration = (*state.calibration, (rho, gamma))[-4 * params.calibration_probes :]
    recent = calibration[-params.calibration_probes :]
    spread = math.log(max(r for r, _ in recent)) - math.log(min(r for r, _ in recent))
    settled = len(recent) == params.calibration_probes and spread <= params.calibration_spread
    if not settled and len(calibration) < min(4 * params.calibration_probes, 64):
        return {"calibration": calibration[-64:]}
    return {
        "calibration": (),
        "rho_ref": rho_ref or _representable(median(r for r, _ in recent)),
        "gamma_ref": gamma_ref or _representable(median(g for _, g in recent)),
        "lr_ref": base_lr if state.lr_ref is None else state.lr_ref,
    }


def reference(
    state: PolicyState,
    params: StageParameters,
    *,
    base_lr: float,
    declared_lr: float,
    threshold: float | None,
) -> Reference:
    """The references in force.

    Args:
        state: after `calibrate`.
        params: of the policy.
        base_lr: what the user's schedule says now.
        declared_lr: base learning rate of the run's specification, to which a given ρ_ref belongs.
        threshold: stability threshold of η·ρ at the base momentum; None if the optimizer has none, then an edge
            reference falls back to the calibrated one.
    """
    gamma = params.gamma_ref or state.gamma_ref
    if params.reference in EDGES and threshold is not None:
        return Reference(_representable(params.target * threshold / base_lr) if base_lr > 0 else None, gamma)
    rho = params.rho_ref or state.rho_ref
    if rho is not None and params.reference == "schedule":
        at = declared_lr if params.rho_ref is not None else (state.lr_ref or 0.0)
        if base_lr > 0 and at > 0:
            rho = _representable(rho * (at / base_lr))
    return Reference(rho, gamma)


def _representable(value: float) -> float:
    return min(max(value, TINY), HUGE)
