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
        quadratic bound does not notice, the plain residual does.
        """
        if len(found.values) < self.least or not self.within(found, error):
            return False
        return not self.gap or float(found.residuals[1]) <= RESIDUAL * self.allowed(found)

    def within(self, found: Ritz, error: Bounds) -> bool:
        """Whether both bounds are within the tolerances."""
        if error.rho > self.rho_tol * abs(float(found.values[0])):
            return False
        return not self.gap or (len(found.values) > 1 and error.gamma <= self.allowed(found))

    def allowed(self, found: Ritz) -> float:
        """The absolute error of γ that the tolerances leave."""
        top, second = (float(v) for v in found.values[:2])
        return max(self.gamma_tol * (top - second), self.gamma_floor * abs(top))


# Of γ's tolerance. Of 246 solves along trainings SOLVED stop at a wrong γ, against nine at 0.5, which takes 0.7
# products less (``benchmarks/probe_stops.py``).
RESIDUAL = 0.3
