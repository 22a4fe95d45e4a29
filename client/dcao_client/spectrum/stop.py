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

    def met(self, found: Ritz, error: Bounds, before: Ritz) -> bool:
        """Whether the bounds are within the tolerances, and λ₂'s plain residual bears them out.

        A start vector with little of v₂ in it lets θ₂ rest on a mixture of λ₂ and λ₃ for some products; the quadratic
        bound does not notice, the plain residual does: it is not small yet, or no longer falls as it does at the end
        (``before``: the Ritz pairs one product ago). Two wrong stops in a hundred solves, as many as without the last
        clause, which saves 0.7 products.
        """
        if len(found.values) < self.least or not self.within(found, error):
            return False
        if not self.gap:
            return True
        residual, allowed = float(found.residuals[1]), self._allowed(found)
        if residual <= allowed / 2:
            return True
        falling = len(before.values) > 1 and residual <= FINAL_FALL * float(before.residuals[1])
        return falling and residual <= 2 * allowed

    def within(self, found: Ritz, error: Bounds) -> bool:
        """Whether both bounds are within the tolerances."""
        if error.rho > self.rho_tol * abs(float(found.values[0])):
            return False
        return not self.gap or (len(found.values) > 1 and error.gamma <= self._allowed(found))

    def _allowed(self, found: Ritz) -> float:
        top, second = (float(v) for v in found.values[:2])
        return max(self.gamma_tol * (top - second), self.gamma_floor * abs(top))


# What one product leaves of λ₂'s residual once nothing but v₂ is being found: measured along trainings, where a rest on
# λ₃ leaves half or more.
FINAL_FALL = 0.4
