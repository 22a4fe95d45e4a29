"""Laws of others as policies: reconstructions from their papers, to be compared with. No code of theirs is public.

All three set the rate to the minimum of the loss along an update u, as a quadratic sees it: slope/curvature, with
slope −gᵀu and curvature uᵀHu. They differ in H, in u, and in how far from that minimum they go. What is ours in each,
because the papers do not say it: the average over measurements (a tenth of the new one, as GeN's released code has it),
at most twice and at least half of the last rate in one decision, and that a measurement without a minimum holds.
"""

from __future__ import annotations

from pydantic import Field

from dcao_proto.decision import GroupMultiplier
from dcao_proto.hyperparameters import Multipliers
from dcao_proto.message import Message, complete
from dcao_proto.observation import Directional, Observation
from dcao_proto.policy.draft import Draft
from dcao_proto.policy.registry import Policy
from dcao_proto.policy.smoothing import remember
from dcao_proto.policy.state import PolicyState
from dcao_proto.run import RunSpec

LEAST = 1e-12  # of a curvature, below which there is no minimum to go to


class LineParameters(Message):
    """How far towards the minimum along the update, and how fast."""

    sigma: float = Field(
        default=1.0, strict=True, gt=0, le=10, description="1 is the minimum; 2 the edge of stability."
    )
    new: float = Field(default=0.1, strict=True, gt=0, le=1, description="Share of the new measurement in the average.")


class EdgeLineParameters(LineParameters):
    """CDAT's: beyond the minimum, on the edge (Roulet et al. 2024, §3.2)."""

    sigma: float = Field(default=2.0, strict=True, gt=0, le=10, description="1 is greedy; 2 rides on the edge.")


def rate_along(along: Directional | None, sigma: float) -> float | None:
    """σ·slope/curvature; None where the quadratic has no minimum ahead."""
    if along is None or along.slope <= 0 or along.curvature <= LEAST:
        return None
    return sigma * along.slope / along.curvature


def towards(old: float, wanted: float, new: float) -> float:
    """The next factor: the old one, and a share of the wanted one, which counts as twice or half the old at most."""
    return (1 - new) * old + new * min(max(wanted, old / 2), old * 2)


def _steered(spec: RunSpec, state: PolicyState, observation: Observation, rate: float | None, new: float) -> Draft:
    """A draft with the factor moved towards `rate`; held where there is none."""
    base = (observation.base or spec.base).lr
    factor = state.factors.lr
    draft = Draft(Multipliers())
    if observation.status == "diverged":
        factor, draft.regime, draft.action = factor / 2, "diverged", "rollback"
        draft.reasons.append("backoff:diverged")
    elif rate is None or base <= 0:
        draft.regime = "held"
        draft.reasons.append("held:unavailable")
    else:
        factor = towards(factor, rate / base, new)
    draft.factors = complete(Multipliers, {"lr": factor, "momentum": 1.0, "weight_decay": 1.0})
    return draft


def _adler(
    spec: RunSpec, state: PolicyState, observation: Observation, params: LineParameters
) -> tuple[Draft, PolicyState]:
    """η = gᵀg / gᵀGg: batch sharpness under the Gauss–Newton matrix, which is what its client measures."""
    sharpness = observation.batch_sharpness
    rate = params.sigma / sharpness if sharpness is not None and sharpness > LEAST else None
    draft = _steered(spec, state, observation, rate, params.new)
    return draft, state.model_copy(update=remember(state, observation) | {"factors": draft.factors})


def _cdat(
    spec: RunSpec, state: PolicyState, observation: Observation, params: LineParameters
) -> tuple[Draft, PolicyState]:
    """η = σ·max(−gᵀu, 0)/|uᵀHu|, u the optimizer's own update."""
    along = observation.directional
    if along is not None and along.curvature < 0:  # theirs takes the absolute value
        along = Directional(slope=along.slope, curvature=-along.curvature)
    draft = _steered(spec, state, observation, rate_along(along, params.sigma), params.new)
    return draft, state.model_copy(update=remember(state, observation) | {"factors": draft.factors})


def _hi_dlr(
    spec: RunSpec, state: PolicyState, observation: Observation, params: LineParameters
) -> tuple[Draft, PolicyState]:
    """A rate for each group, from its own slope and curvature (the diagonal of their A)."""
    whole = rate_along(observation.directional, params.sigma)
    draft = _steered(spec, state, observation, whole, params.new)
    rate = (observation.base or spec.base).lr * draft.factors.lr
    found = []
    for group in observation.groups or ():
        own = rate_along(group, params.sigma)
        multiplier = 1.0 if own is None or rate <= 0 else min(max(own / rate, 0.5), 2.0)
        found.append(GroupMultiplier(name=group.name, multiplier=multiplier))
    draft.groups = tuple(found) or None
    return draft, state.model_copy(update=remember(state, observation) | {"factors": draft.factors})


ADLER = Policy("adler", 1, LineParameters, _adler, "Reconstruction of ADLER (Balboni & Bacciu 2023): gᵀg/gᵀGg.")
CDAT = Policy("cdat", 1, EdgeLineParameters, _cdat, "Reconstruction of CDAT (Roulet et al. 2024): σ·slope/curvature.")
HI_DLR = Policy("hi-dlr", 1, LineParameters, _hi_dlr, "Reconstruction of Hi-DLR (Xu et al. 2025): a rate a group.")
