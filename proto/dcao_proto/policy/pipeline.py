"""The whole decision: gate → reference → smoothing → law → bounds → dead band → slew limit.

Every stage is a function in a file of its own; every stage that changed or held a value leaves a reason code. A preset
is this pipeline with a law and default parameters.
"""

import math
import sys
from collections.abc import Callable
from typing import TypeVar

from dcao_proto.hyperparameters import Bounds, Hyperparameters, Multipliers
from dcao_proto.message import successor
from dcao_proto.observation import Observation
from dcao_proto.optimizers import edge_ratio
from dcao_proto.policy.bounds import clamp
from dcao_proto.policy.draft import Draft
from dcao_proto.policy.gate import gate
from dcao_proto.policy.laws import decay_gain
from dcao_proto.policy.parameters import StageParameters
from dcao_proto.policy.reference import EDGES, Reference, calibrate, reference, signal
from dcao_proto.policy.smoothing import is_outlier, log_floor, remember, smooth
from dcao_proto.policy.state import PolicyState
from dcao_proto.policy.steadying import in_dead_band, limit_slew
from dcao_proto.run import RunSpec

SATURATED_AFTER = 10
LOG_MAX = math.log(sys.float_info.max)  # a state from elsewhere may hold more than any ln ρ

P = TypeVar("P", bound=StageParameters)

# (ρ, ρ_ref, parameters) → (f, elasticity |d ln f / d ln ρ|)
LearningRateLaw = Callable[[float, float, P], tuple[float, float]]
# (γ, γ_ref, parameters) → g
MomentumLaw = Callable[[float, float, P], float]


def run_pipeline(
    spec: RunSpec,
    state: PolicyState,
    observation: Observation,
    params: P,
    law: LearningRateLaw[P],
    momentum_law: MomentumLaw[P],
) -> tuple[Draft, PolicyState]:
    """One decision of a policy built from stages.

    Returns:
        The factors with their reasons, and the state for the next observation. A function of its arguments only.
    """
    base = observation.base or spec.base
    draft = Draft(
        _within(state.factors, spec.bounds),
        literal_momentum=params.momentum_form == "literal",
        preserve_effective_lr=params.preserve_effective_lr,
    )
    state = remember(state, observation)
    if observation.status == "diverged":
        return _back_off(draft, state, params, spec.bounds)
    state = state.model_copy(update={"diverged": 0})

    fingerprint = observation.probe.fingerprint if observation.probe else None
    if fingerprint is not None and fingerprint != state.fingerprint:
        if state.fingerprint is not None:
            draft.reasons.append("recalibrate:fingerprint")
            state = _forget_curvature(state)
        state = state.model_copy(update={"fingerprint": fingerprint})

    verdict = gate(observation, params)
    draft.reasons.extend(verdict.reasons)
    seen, gamma = signal(observation, params, spec.optimizer, base.momentum), observation.gamma
    if not verdict.rho or seen is None or gamma is None:
        draft.regime = "held"
        return draft, state
    state = _calibrate(draft, state, params, observation, base, seen.value, gamma)
    refs = reference(state, params, base_lr=base.lr, declared_lr=spec.base.lr, threshold=seen.threshold)

    log_rho = log_floor(seen.value, refs.rho)
    if is_outlier(log_rho, state, params):
        draft.reasons.append("held:outlier")
        draft.regime = "held"
        return draft, state.model_copy(update={"outliers": successor(state.outliers)})
    if state.outliers >= 2:
        draft.reasons.append("regime-change")
    state = smooth(state, params, log_rho=log_rho, gamma=gamma if verdict.gamma else None)
    if refs.rho is None:
        calibrating = params.reference not in EDGES or seen.threshold is None
        draft.reasons.append("calibrating" if calibrating else "no-reference")
        draft.regime = "calibrating" if calibrating else "held"
        return draft, state

    smoothed = params.smoothing > 0 and seen.value > 0 and state.log_rho is not None
    used_rho = math.exp(min(state.log_rho, LOG_MAX)) if smoothed and state.log_rho is not None else seen.value
    # Without γ_ref the momentum waits; with a bad γ it holds.
    used_gamma = state.gamma if verdict.gamma else None
    wanted = _apply_laws(draft, params, law, momentum_law, refs, used_rho, used_gamma)
    in_force = Hyperparameters.model_construct(lr=base.lr * draft.factors.lr, momentum=base.momentum, weight_decay=0.0)
    edge = edge_ratio(spec.optimizer, in_force, observation.rho)
    draft.factors = _steady(draft, wanted, params, spec.bounds, far_beyond_edge=(edge or 0.0) > params.fast_edge)
    return draft, _count_saturation(draft, state, spec.bounds)


def _calibrate(
    draft: Draft,
    state: PolicyState,
    params: StageParameters,
    observation: Observation,
    base: Hyperparameters,
    rho: float,
    gamma: float,
) -> PolicyState:
    after = calibrate(state, params, step=observation.step, rho=rho, gamma=gamma, base_lr=base.lr)
    if state.calibration and not after.calibration:
        draft.reasons.append("calibrated")
    return after


def _apply_laws(
    draft: Draft,
    params: P,
    law: LearningRateLaw[P],
    momentum_law: MomentumLaw[P],
    refs: Reference,
    rho: float,
    gamma: float | None,
) -> Multipliers:
    """f, g, h as the laws want them, unbounded."""
    assert refs.rho is not None  # noqa: S101  (the caller returned before otherwise)
    f, elasticity = law(rho, refs.rho, params)
    if elasticity > 1:
        draft.reasons.append("warn:loop-gain")
    if rho <= 0 and not params.literal_negative:
        draft.reasons.append("negative-curvature")
        f = min(f, 1.0)
    g = draft.factors.momentum
    if gamma is not None and refs.gamma is not None:
        g = momentum_law(gamma, refs.gamma, params)
    elif gamma is not None and params.kappa != 0:
        draft.reasons.append("calibrating:gap")
    h = decay_gain(rho, refs.rho, params.mu, centred=params.weight_decay_form == "centred")
    return Multipliers.model_construct(lr=f, momentum=g, weight_decay=h)


def _steady(
    draft: Draft, wanted: Multipliers, params: StageParameters, bounds: Bounds, *, far_beyond_edge: bool
) -> Multipliers:
    """Bounds, then dead band, then slew limit, for each factor alike."""
    steadied: dict[str, float] = {}
    for name in ("lr", "momentum", "weight_decay"):
        old, asked = getattr(draft.factors, name), getattr(wanted, name)
        new = clamp(asked, getattr(bounds, name))
        if new != asked and name != "momentum":  # the momentum's own limits are reported when it is composed
            draft.reasons.append(f"clamped:{name}")
        if in_dead_band(new, old, params.dead_band):
            draft.reasons.append(f"dead-band:{name}")
            new = old
        ratio = params.momentum_slew if name == "momentum" else params.slew
        limited = limit_slew(new, old, ratio)
        if limited != new and name == "lr" and new < old and far_beyond_edge:
            draft.reasons.append("fast:lr")
            limited = new
        elif limited != new:
            draft.reasons.append(f"slew:{name}")
        steadied[name] = limited
    return Multipliers(**steadied)


def _back_off(draft: Draft, state: PolicyState, params: StageParameters, bounds: Bounds) -> tuple[Draft, PolicyState]:
    """After a divergence: half the learning-rate factor, go back to the last checkpoint, give up after several."""
    diverged = successor(state.diverged)
    halved = clamp(draft.factors.lr / 2, bounds.lr)
    draft.factors = draft.factors.model_copy(update={"lr": halved})
    draft.reasons.extend(("backoff:diverged", "held:diverged"))
    draft.regime = "diverged"
    draft.action = "stop" if diverged >= params.stop_after else "rollback"
    return draft, state.model_copy(update={"diverged": diverged, "factors": draft.factors})


def _count_saturation(draft: Draft, state: PolicyState, bounds: Bounds) -> PolicyState:
    pinned = draft.factors.lr in bounds.lr and bounds.lr[0] < bounds.lr[1]
    at_bound = successor(state.at_bound) if pinned else 0
    if at_bound >= SATURATED_AFTER:
        draft.reasons.append("warn:saturated")
    return state.model_copy(
        update={
            "at_bound": at_bound,
            "at_bound_total": successor(state.at_bound_total) if pinned else state.at_bound_total,
            "factors": draft.factors,
        }
    )


def _within(factors: Multipliers, bounds: Bounds) -> Multipliers:
    """The factors in force; a state from elsewhere cannot bring factors that the run's bounds forbid."""
    return Multipliers.model_construct(
        lr=clamp(factors.lr, bounds.lr),
        momentum=clamp(factors.momentum, bounds.momentum),
        weight_decay=clamp(factors.weight_decay, bounds.weight_decay),
    )


def _forget_curvature(state: PolicyState) -> PolicyState:
    """References, averages and window belong to a fingerprint; the factors in force stay where they are."""
    forgotten = PolicyState()
    fields = (
        "calibration",
        "rho_ref",
        "gamma_ref",
        "lr_ref",
        "log_rho",
        "gamma",
        "window",
        "outliers",
        "rho",
    )
    return state.model_copy(update={name: getattr(forgotten, name) for name in fields})
