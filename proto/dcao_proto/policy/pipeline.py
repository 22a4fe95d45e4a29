"""The whole decision: gate → reference → smoothing → law → bounds → dead band → slew limit.

Every stage is a function in a file of its own; every stage that changed or held a value leaves a reason code. A preset
is this pipeline with a law and default parameters.
"""

import math
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from dcao_proto.hyperparameters import Bounds, Multipliers
from dcao_proto.message import complete, successor
from dcao_proto.observation import Observation
from dcao_proto.optimizers import edge_ratio
from dcao_proto.policy.bounds import clamp
from dcao_proto.policy.draft import Draft
from dcao_proto.policy.gate import gate
from dcao_proto.policy.laws import decay_gain
from dcao_proto.policy.parameters import StageParameters
from dcao_proto.policy.path import next_probe
from dcao_proto.policy.reference import EDGES, Reference, Signal, calibrate, reference, signal
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

    The stages say what changes in the state; it is applied once, at the end. A stage that reads what an earlier one
    changed gets it from there.

    Returns:
        The factors with their reasons, and the state for the next observation. A function of its arguments only.
    """
    base, bounds = observation.base or spec.base, spec.bounds
    draft = Draft(
        _within(state.factors, bounds),
        literal_momentum=params.momentum_form == "literal",
        preserve_effective_lr=params.preserve_effective_lr,
    )
    changes = remember(state, observation)
    if observation.status == "diverged":
        return _back_off(draft, state, changes, params, bounds)
    changes["diverged"] = 0

    fingerprint = observation.probe.fingerprint if observation.probe else None
    if fingerprint is not None and fingerprint != state.fingerprint:
        if state.fingerprint is not None:
            draft.reasons.append("recalibrate:fingerprint")
            changes |= _forgotten_curvature()
        changes["fingerprint"] = fingerprint
        state = state.model_copy(update=changes)

    verdict = gate(observation, params)
    if verdict.reason is not None:
        draft.note(verdict.reason, **verdict.numbers)
    seen, gamma = signal(observation, params, spec.optimizer, base.momentum), observation.gamma
    if not verdict.rho or seen is None or gamma is None:
        draft.regime = "held"
        return draft, state.model_copy(update=changes)
    learned = calibrate(state, params, step=observation.step, rho=seen.value, gamma=gamma, base_lr=base.lr)
    if learned:
        if state.calibration and not learned["calibration"]:
            draft.reasons.append("calibrated")
        changes |= learned
        state = state.model_copy(update=changes)
    refs = reference(state, params, base_lr=base.lr, declared_lr=spec.base.lr, threshold=seen.threshold)

    log_rho = log_floor(seen.value, refs.rho)
    if is_outlier(log_rho, state, params):
        draft.reasons.append("held:outlier")
        draft.regime = "held"
        changes["outliers"] = successor(state.outliers)
        return draft, state.model_copy(update=changes)
    if state.outliers >= 2:
        draft.reasons.append("regime-change")
    smoothed = smooth(state, params, log_rho=log_rho, gamma=gamma if verdict.gamma else None)
    changes |= smoothed
    if refs.rho is None:
        calibrating = params.reference not in EDGES or seen.threshold is None
        if calibrating:
            draft.note("calibrating", probes=len(state.calibration), of=params.calibration_probes)
        else:
            draft.reasons.append("no-reference")
            draft.next_probe_in = next_probe(observation.step, spec.probe_interval)  # a warm-up's first step
        draft.regime = "calibrating" if calibrating else "held"
        return draft, state.model_copy(update=changes)

    by_average = params.smoothing > 0 and seen.value > 0
    used_rho = math.exp(min(smoothed["log_rho"], LOG_MAX)) if by_average else seen.value
    # Without γ_ref the momentum waits; with a bad γ it holds.
    used_gamma = smoothed["gamma"] if verdict.gamma else None
    wanted = _apply_laws(draft, params, law, momentum_law, refs, used_rho, used_gamma)
    _say_why(draft, params, refs, seen, used_rho, used_gamma)
    edge = edge_ratio(spec.optimizer, base.lr * draft.factors.lr, base.momentum, observation.rho)
    draft.factors = _steady(draft, wanted, params, bounds, far_beyond_edge=(edge or 0.0) > params.fast_edge)
    changes |= _count_saturation(draft, state, bounds)
    return draft, state.model_copy(update=changes)


def _apply_laws(
    draft: Draft,
    params: P,
    law: LearningRateLaw[P],
    momentum_law: MomentumLaw[P],
    refs: Reference,
    rho: float,
    gamma: float | None,
) -> tuple[float, float, float]:
    """f, g, h as the laws want them, unbounded."""
    assert refs.rho is not None  # noqa: S101  (the caller returned before otherwise)
    f, elasticity = law(rho, refs.rho, params)
    if elasticity > 1:
        draft.note("warn:loop-gain", elasticity=elasticity)
    if rho <= 0 and not params.literal_negative:
        draft.reasons.append("negative-curvature")
        f = min(f, 1.0)
    g = draft.factors.momentum
    if gamma is not None and refs.gamma is not None:
        g = momentum_law(gamma, refs.gamma, params)
    elif gamma is not None and params.kappa != 0:
        draft.reasons.append("calibrating:gap")
    h = decay_gain(rho, refs.rho, params.mu, centred=params.weight_decay_form == "centred")
    return f, g, h


def _say_why(
    draft: Draft, params: StageParameters, refs: Reference, seen: Signal, rho: float, gamma: float | None
) -> None:
    """What the laws looked at: how far from its reference, or from its edge."""
    assert refs.rho is not None  # noqa: S101  (as above)
    ratio = rho / refs.rho
    if params.reference in EDGES and seen.threshold is not None:
        aim = {} if params.target == 1 else {"aim": params.target}
        draft.because("batch-edge:lr" if seen.by_batch else "edge:lr", ratio=ratio * params.target, **aim)
    else:
        draft.because("sharpness:lr", ratio=ratio)
    if gamma is not None and refs.gamma is not None and params.kappa != 0:
        draft.because("gap:momentum", ratio=gamma / refs.gamma)
    if params.mu != 0:
        draft.because("sharpness:weight_decay", ratio=ratio)


def _steady(
    draft: Draft,
    wanted: tuple[float, float, float],
    params: StageParameters,
    bounds: Bounds,
    *,
    far_beyond_edge: bool,
) -> Multipliers:
    """Bounds, then dead band, then slew limit, for each factor alike."""
    old = draft.factors
    f, g, h = wanted
    band, slew = params.dead_band, params.slew
    lr = _steadied("lr", f, old.lr, bounds.lr, band, slew, draft, free_to_fall=far_beyond_edge)
    momentum = _steadied("momentum", g, old.momentum, bounds.momentum, band, params.momentum_slew, draft)
    weight_decay = _steadied("weight_decay", h, old.weight_decay, bounds.weight_decay, band, slew, draft)
    values = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    if math.isfinite(lr + momentum + weight_decay):
        return complete(Multipliers, values)
    return Multipliers(**values)  # says what is wrong: a law from a plug-in may give what is no factor


def _steadied(
    name: str,
    wanted: float,
    old: float,
    interval: tuple[float, float],
    band: float,
    slew: float | None,
    draft: Draft,
    *,
    free_to_fall: bool = False,
) -> float:
    new = clamp(wanted, interval)
    if new != wanted and name != "momentum":  # the momentum's own limits are reported when it is composed
        draft.note(f"clamped:{name}", wanted=wanted)
    if in_dead_band(new, old, band):
        draft.note(f"dead-band:{name}", wanted=new)
        return old
    limited = limit_slew(new, old, slew)
    if limited == new:
        return new
    if free_to_fall and new < old:
        draft.reasons.append(f"fast:{name}")
        return new
    draft.note(f"slew:{name}", wanted=new)
    return limited


def _back_off(
    draft: Draft, state: PolicyState, changes: dict[str, Any], params: StageParameters, bounds: Bounds
) -> tuple[Draft, PolicyState]:
    """After a divergence: half the learning-rate factor, go back to the last checkpoint, give up after several."""
    diverged = successor(state.diverged)
    halved = clamp(draft.factors.lr / 2, bounds.lr)
    draft.factors = draft.factors.model_copy(update={"lr": halved})
    draft.reasons.extend(("backoff:diverged", "held:diverged"))
    draft.regime = "diverged"
    draft.action = "stop" if diverged >= params.stop_after else "rollback"
    return draft, state.model_copy(update={**changes, "diverged": diverged, "factors": draft.factors})


def _count_saturation(draft: Draft, state: PolicyState, bounds: Bounds) -> dict[str, Any]:
    low, high = bounds.lr
    pinned = draft.factors.lr in (low, high) and low < high
    at_bound = successor(state.at_bound) if pinned else 0
    if at_bound >= SATURATED_AFTER:
        draft.reasons.append("warn:saturated")
    return {
        "at_bound": at_bound,
        "at_bound_total": successor(state.at_bound_total) if pinned else state.at_bound_total,
        "factors": draft.factors,
    }


def _within(factors: Multipliers, bounds: Bounds) -> Multipliers:
    """The factors in force; a state from elsewhere cannot bring factors that the run's bounds forbid."""
    f, g, h = factors.lr, factors.momentum, factors.weight_decay
    (f_low, f_high), (g_low, g_high), (h_low, h_high) = bounds.lr, bounds.momentum, bounds.weight_decay
    if f_low <= f <= f_high and g_low <= g <= g_high and h_low <= h <= h_high:
        return factors
    return complete(
        Multipliers,
        {
            "lr": clamp(f, bounds.lr),
            "momentum": clamp(g, bounds.momentum),
            "weight_decay": clamp(h, bounds.weight_decay),
        },
    )


def _forgotten_curvature() -> dict[str, Any]:
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
    return {name: getattr(forgotten, name) for name in fields}
