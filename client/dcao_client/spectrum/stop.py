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
        """Whether both bounds are within the tolerances, and λ₂'s plain residual too.

        A start vector with little of v₂ in it lets θ₂ rest on a mixture of λ₂ and λ₃ for a step; the
        quadratic bound does not notice, the plain residual does.
        """
        top = abs(float(found.values[0]))
        if error.rho > self.rho_tol * top or len(found.values) < self.least:
            return False
        if not self.gap:
            return True
        if len(found.values) < 2:
            return False
        allowed = max(self.gamma_tol * float(found.values[0] - found.values[1]), self.gamma_floor * top)
        return error.gamma <= allowed and float(found.residuals[1]) <= allowed / 2
