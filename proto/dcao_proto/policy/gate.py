"""Gate: may this observation move anything?"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from dcao_proto.observation import Observation
from dcao_proto.policy.parameters import StageParameters


class Verdict(NamedTuple):
    """Whether ρ and γ may be used, and why not."""

    rho: bool
    gamma: bool
    reason: str | None = None
    numbers: Mapping[str, float] = MappingProxyType({})


_PASSED = Verdict(True, True)


def gate(observation: Observation, params: StageParameters) -> Verdict:
    """Refuses observations without a spectrum and spectra whose Ritz bounds are too wide.

    A Ritz value whose bound exceeds 10 % says little about λ₁; λ₂ converges last and a bad one overstates γ (up to 66×
    after five Lanczos steps), so γ has a tolerance of its own and stops the momentum only.
    """
    if observation.status != "ok" or observation.rho is None or observation.gamma is None:
        return Verdict(False, False, f"held:{observation.status}")
    rho, gamma = observation.rho, observation.gamma
    if (observation.rho_bound or 0.0) > params.rho_tolerance * abs(rho):
        return Verdict(False, False, "held:residual", share_of(observation.rho_bound, rho, params.rho_tolerance))
    if (observation.gamma_bound or 0.0) > params.gamma_tolerance * gamma:
        return Verdict(True, False, "held:gap", share_of(observation.gamma_bound, gamma, params.gamma_tolerance))
    return _PASSED


def share_of(bound: float | None, value: float, most: float) -> dict[str, float]:
    """How wide a bound is, as a share of what it bounds, and the largest share that is used."""
    return {"share": (bound or 0.0) / abs(value), "most": most} if value else {"most": most}
