"""When a solve is good enough."""

from __future__ import annotations

from dataclasses import dataclass

from dcao_client.spectrum.ritz import Bounds, Ritz


@dataclass(frozen=True, slots=True)
class Stop:
    """When the answer is good enough. Fractions as in ProbeSettings; ``gap=False`` asks for λ₁ alone.

    ``floor`` is a product's relative error. With ``polished`` the noise of the products does not delay the
    stop, because an accurate step follows; the bounds reported still contain it. ``least`` is the number of Ritz
    values below which nothing is believed.
    """

    rho_tol: float = 1e-2
    gamma_tol: float = 5e-2
    gamma_floor: float = 1e-2
    floor: float = 1e-5
    gap: bool = True
    polished: bool = False
    least: int = 1

    def met(self, found: Ritz, error: Bounds) -> bool:
        """Whether the bounds are within the tolerances, and λ₂'s plain residual bears them out.

        A start vector with little of v₂ in it lets θ₂ rest on λ₃, or on a mixture of both, for some products; the
        quadratic bound does not notice, the plain residual does. A dozen products bring out what is faint.
        """
        if len(found.values) < self.least or not self.within(found, error):
            return False
        part = EARLY if len(found.values) < DOZEN else 1.0
        return not self.gap or float(found.residuals[1]) <= part * self.allowed(found)

    def within(self, found: Ritz, error: Bounds) -> bool:
        """Whether both bounds are within the tolerances."""
        if error.rho > self.rho_tol * abs(float(found.values[0])):
            return False
        return not self.gap or (len(found.values) > 1 and error.gamma <= self.allowed(found))

    def room(self, found: Ritz) -> float:
        """How far above θ₂ an eigenvalue may be missed when a solve stops."""
        return ROOM * self.allowed(found)

    def allowed(self, found: Ritz) -> float:
        """The absolute error of γ that the tolerances leave."""
        top, second = (float(v) for v in found.values[:2])
        return max(self.gamma_tol * (top - second), self.gamma_floor * abs(top))


# The part of γ's tolerance that λ₂'s residual may have before so many products. Four of 246 solves along trainings stop
# at a wrong γ; at 0.5 throughout nine do, at 0.3 throughout three, with 0.3 products more
# (``benchmarks/probe_stops.py``).
EARLY, DOZEN = 0.3, 12
# In units of γ's tolerance. With 5 and the default tolerance the bound of γ is a quarter of it, the most that the law
# uses (``gamma_tolerance``).
ROOM = 5.0
