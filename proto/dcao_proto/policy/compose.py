"""From factors to values: base × multiplier, ready to write into an optimizer."""

from dcao_proto.decision import MAX_CAUSES, Decision, Regime
from dcao_proto.hyperparameters import Multipliers
from dcao_proto.message import complete
from dcao_proto.observation import Observation
from dcao_proto.optimizers import edge_ratio, sums_momentum
from dcao_proto.policy.bounds import clamp
from dcao_proto.policy.draft import Draft
from dcao_proto.policy.momentum import compose_momentum
from dcao_proto.run import RunSpec

MAX_LR = 1e6  # of `Hyperparameters.lr`
FLAT, STABLE, EDGE = 0.1, 0.8, 1.2  # upper ends, in edge ratios; full-batch training hovers within 20 % of 1


def regime_of(ratio: float | None, rho: float | None) -> Regime:
    """Where the run stands relative to the edge; a run without a threshold is called stable."""
    if rho is not None and rho <= 0:
        return "flat"
    if ratio is None:
        return "stable"
    return "flat" if ratio < FLAT else "stable" if ratio < STABLE else "edge" if ratio <= EDGE else "unstable"


def compose(
    spec: RunSpec, observation: Observation, draft: Draft, *, policy: str, state: str, version: int
) -> Decision:
    """The decision. Pure; the multipliers are within the run's bounds and 0 ≤ momentum < 1 whatever the draft holds."""
    base = observation.base or spec.base
    factors, reasons = draft.factors, draft.reasons
    beta = compose_momentum(base.momentum, factors.momentum, spec.bounds, literal=draft.literal_momentum)
    if beta.capped:
        draft.note("clamped:momentum", wanted=factors.momentum)
    f = clamp(factors.lr, spec.bounds.lr)
    if draft.preserve_effective_lr and sums_momentum(spec.optimizer) and beta.value != base.momentum:
        reasons.append("effective-lr")
        wanted = f * (1 - beta.value) / (1 - base.momentum)
        f = clamp(wanted, spec.bounds.lr)
        if f != wanted:
            draft.note("clamped:lr", wanted=wanted)
    h = clamp(factors.weight_decay, spec.bounds.weight_decay)
    ceiling = _ceiling(spec, base.lr, draft.ceiling)
    lr = base.lr * f
    if ceiling is not None and lr > ceiling:
        reasons.append("ceiling:lr")
        lr = ceiling  # the factor stays: where the base falls, the ceiling no longer holds
    ratio = edge_ratio(spec.optimizer, lr, beta.value, observation.rho)
    return complete(
        Decision,
        {
            "attempt": observation.attempt,
            "step": observation.step,
            "lr": lr,
            "momentum": beta.value,
            "weight_decay": base.weight_decay * h,
            "multipliers": complete(Multipliers, {"lr": f, "momentum": beta.multiplier, "weight_decay": h}),
            "ceiling": ceiling,
            "edge_ratio": ratio,
            "regime": draft.regime or regime_of(ratio, observation.rho),
            "reasons": tuple(dict.fromkeys(reasons)),
            "causes": tuple(draft.causes[:MAX_CAUSES]) or None,
            "next_probe_in": draft.next_probe_in or spec.probe_interval,
            "action": draft.action,
            "groups": draft.groups,
            "policy": policy,
            "replayed": False,
            "persisted": False,
            "state": state,
            "version": version,
        },
    )


def _ceiling(spec: RunSpec, base_lr: float, wanted: float | None) -> float | None:
    """The ceiling, not below what the bounds let the factor do now, and representable where a learning rate is.

    None for a run that is watched: its base may rise before the next decision.
    """
    if wanted is None or spec.trust == "watch":
        return None
    return min(max(wanted, base_lr * spec.bounds.lr[0]), MAX_LR)
