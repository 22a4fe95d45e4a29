"""Gate: may this observation move anything?"""

from typing import NamedTuple

from dcao_proto.observation import Observation
from dcao_proto.policy.parameters import StageParameters


class Verdict(NamedTuple):
    """Whether ρ and γ may be used, and why not."""

    rho: bool
    gamma: bool
    reasons: tuple[str, ...]


_PASSED = Verdict(True, True, ())


def gate(observation: Observation, params: StageParameters) -> Verdict:
    """Refuses observations without a spectrum and spectra whose Ritz bounds are too wide.

    A Ritz value whose bound exceeds 10 % says little about λ₁; λ₂ converges last and a bad one overstates γ (up to 66×
    after five Lanczos steps), so γ has a tolerance of its own and stops the momentum only.
    """
    if observation.status != "ok" or observation.rho is None or observation.gamma is None:
        return Verdict(False, False, (f"held:{observation.status}",))
    if (observation.rho_bound or 0.0) > params.rho_tolerance * abs(observation.rho):
        return Verdict(False, False, ("held:residual",))
    if (observation.gamma_bound or 0.0) > params.gamma_tolerance * observation.gamma:
        return Verdict(True, False, ("held:gap",))
    return _PASSED
