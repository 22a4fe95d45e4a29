"""`default`: what a run gets that asks for nothing. The path pushes, curvature holds.

η = min(s·r/√G, C·threshold/λ̂) under `trust: auto`, times the shape of the user's schedule where there is one; under
`guard` never above the user's own rate. A client that follows no path (scale `user`) is only held by the ceiling.
Momentum and weight decay stay the user's: no measurement found a law for either that was worth having. `path.py` has
the stages, `docs/policies.md` the measurements.
"""

from typing import Any

from dcao_proto.hyperparameters import Multipliers
from dcao_proto.message import complete, successor
from dcao_proto.observation import Observation
from dcao_proto.policy.draft import Draft
from dcao_proto.policy.gate import share_of
from dcao_proto.policy.path import (
    PathParameters,
    ceiling,
    follow,
    least,
    leeway_of,
    margin_of,
    next_probe,
    push_of,
)
from dcao_proto.policy.registry import Policy
from dcao_proto.policy.smoothing import remember
from dcao_proto.policy.state import LEAST_RETREAT, PolicyState
from dcao_proto.run import RunSpec


def _decide(
    spec: RunSpec, state: PolicyState, observation: Observation, params: PathParameters
) -> tuple[Draft, PolicyState]:
    draft = Draft(Multipliers(), next_probe_in=next_probe(observation.step, spec.probe_interval))
    changes = remember(state, observation)
    changes |= _diverged(draft, state, params) if observation.status == "diverged" else {"diverged": 0}
    changes |= _measured(draft, state, observation, params)
    if spec.trust == "watch":
        draft.because("watch")
    else:
        state = state.model_copy(update=changes)
        _set_rate(draft, spec, state, observation, params)
        changes["factors"] = draft.factors
    return draft, state.model_copy(update=changes)


def _measured(draft: Draft, state: PolicyState, observation: Observation, params: PathParameters) -> dict[str, Any]:
    """What the measurement makes of λ̂; an unusable one leaves it where it is."""
    changes: dict[str, Any] = {}
    fingerprint = observation.probe.fingerprint if observation.probe else None
    if fingerprint is not None and fingerprint != state.fingerprint:
        changes["fingerprint"] = fingerprint
        if state.fingerprint is not None:
            draft.reasons.append("recalibrate:fingerprint")
            state = state.model_copy(update={"sharpness": None})
    if observation.status != "ok" or observation.rho is None:
        draft.reasons.append(f"held:{observation.status}")
        draft.regime = draft.regime or "held"
        return changes
    if (observation.rho_bound or 0.0) > params.rho_tolerance * abs(observation.rho):
        draft.note("held:residual", **share_of(observation.rho_bound, observation.rho, params.rho_tolerance))
        draft.regime = "held"
        return changes
    if observation.rho <= 0:
        draft.reasons.append("negative-curvature")
    followed = follow(state.sharpness, observation.rho, state.rho.count, params)
    if followed is not None and followed.limited:
        draft.note("slew:sharpness", sharpness=followed.value, rho=observation.rho)
    return changes | {"sharpness": None if followed is None else followed.value}


def _set_rate(
    draft: Draft, spec: RunSpec, state: PolicyState, observation: Observation, params: PathParameters
) -> None:
    """Push and ceiling, both behind what divergences have taken away."""
    base, path = observation.base or spec.base, observation.path
    f = 1.0
    if spec.scale == "path":
        f = push_of(params, spec.optimizer, base.momentum)
        if spec.trust == "guard":
            f *= leeway_of(params, spec.optimizer, observation.step)
    held = ceiling(state.sharpness, params, spec.optimizer, base.momentum)
    held, most = None if held is None else held * state.retreat, None if path is None else path.most
    draft.factors = complete(Multipliers, {"lr": f * state.retreat, "momentum": 1.0, "weight_decay": 1.0})
    draft.ceiling = least(held, most)
    retreat = {"retreat": state.retreat} if state.retreat < 1 else {}
    asked = base.lr * f * state.retreat
    if held is not None and state.sharpness is not None and asked > held and (most is None or held <= most):
        margin = margin_of(params, spec.optimizer, base.momentum)
        draft.because("ceiling:lr", asked=asked, sharpness=state.sharpness, margin=margin, **retreat)
    elif most is not None and asked > most:
        draft.because("ceiling:lr", asked=asked, yours=most)
    elif spec.scale == "path":
        draft.because("path:lr", path=base.lr, **retreat)
    else:
        draft.because("schedule:lr", **retreat)


def _diverged(draft: Draft, state: PolicyState, params: PathParameters) -> dict[str, Any]:
    """Half of everything, a rollback, and after several the advice to stop."""
    diverged = successor(state.diverged)
    draft.reasons.append("backoff:diverged")
    draft.regime = "diverged"
    draft.action = "stop" if diverged >= params.stop_after else "rollback"
    return {"diverged": diverged, "retreat": max(state.retreat / 2, LEAST_RETREAT)}


DEFAULT = Policy("default", 3, PathParameters, _decide, "The path pushes, curvature holds.", follows_path=True)
