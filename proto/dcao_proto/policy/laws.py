"""Laws: curvature to factor. Each is a pure function of ρ (or γ) and the reference; bounds come later.

All are written so that any finite input gives a number or ±infinity, which the bounds then catch; never a NaN.

The loop gain decides whether a law is stable near the edge, where ρ answers η as ρ ≈ c/η: with r = ρ/ρ_ref the loop
settles where r·m(r) = s, the edge over the reference, so m must fall more slowly than 1/r, that is the elasticity
|d ln m / d ln ρ| must stay below 1. The exponential law with α = ln2/ρ_ref exceeds it above r = 1.44 and is then pinned
at its lower bound.
"""

import math

LN2 = math.log(2)
ATANH_HALF = math.atanh(0.5)
_MAX_EXPONENT = 700.0  # e^700 is the largest power that a double holds, roughly


def _times(a: float, b: float) -> float:
    """a·b with 0·∞ = 0: a sensitivity of zero means no effect."""
    return 0.0 if a == 0.0 or b == 0.0 else a * b


def exponential(rho: float, rho_ref: float, alpha: float) -> float:
    """f = exp(−α(ρ − ρ_ref)), the proposal's §2.3. Elasticity α·ρ."""
    return math.exp(max(-_MAX_EXPONENT, min(_MAX_EXPONENT, -_times(alpha, rho - rho_ref))))


def linear(rho: float, rho_ref: float, slope: float) -> float:
    """f = 1 − slope·(ρ/ρ_ref − 1). Elasticity slope·r / f."""
    return 1.0 - _times(slope, rho / rho_ref - 1.0)


def power(rho: float, rho_ref: float, exponent: float) -> float:
    """f = (ρ/ρ_ref)^−exponent. Elasticity = exponent everywhere, so it never pins itself for an exponent below 1."""
    if rho <= 0:
        return math.inf if exponent > 0 else 1.0
    return math.exp(max(-_MAX_EXPONENT, min(_MAX_EXPONENT, -exponent * (math.log(rho) - math.log(rho_ref)))))


def gap_gain(gamma: float, gamma_ref: float, kappa: float) -> float:
    """g = 1 + tanh(κ(γ − γ_ref)), the proposal's §2.3; in (0, 2)."""
    return 1.0 + math.tanh(_times(kappa, gamma - gamma_ref))


def decay_gain(rho: float, rho_ref: float, mu: float, *, centred: bool) -> float:
    """h = 1 + μ·ρ/ρ_ref (the proposal's §2.3), or centred 1 + μ·(ρ/ρ_ref − 1), which is 1 at the reference.

    Not good for networks with normalisation layers: there decay shrinks the weights, which raises ρ again.
    """
    return 1.0 + _times(mu, rho / rho_ref - (1.0 if centred else 0.0))
