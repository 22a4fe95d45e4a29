"""λ₁ alone from a few products: Lanczos that goes on from the last top vector.

Along a training the top eigenvector turns slowly, so that the last one and a little of the second and of the gradient
span, after three products, a space whose largest Ritz value is λ₁ to a few percent. A Ritz value never exceeds λ₁ (but
for the products' own error): an error here is an underestimate. Not for the gap, nor where the top changes altogether
from one probe to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

from dcao_client.spectrum.arrays import arrays
from dcao_client.spectrum.lanczos import lanczos
from dcao_client.spectrum.measure import Answer, Question, basics, described, diverged
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.result import Outcome, Spectrum, finite
from dcao_client.spectrum.ritz import Bounds, Ritz
from dcao_client.spectrum.solve import new_basis, noise, scaled
from dcao_client.spectrum.starts import continued
from dcao_client.spectrum.stop import Stop

# Lengths of the last second vector and of the unit gradient beside the last top vector. The second takes over where two
# eigenvalues cross, the gradient holds what is new (``benchmarks/probe_cheap.py --seconds 0 0.3 --mixes 0 0.3``).
SECOND, MIX = 0.3, 0.3
# The part of these lengths for fewer products, which cannot sort out what is mixed: none for one, a Rayleigh quotient.
FEW = {1: 0.0, 2: 0.3}
# Without a last vector: products at most and at least, and the bound of λ₁, as a fraction of it, at which they end.
COLD_MATVECS, COLD_LEAST, COLD_TOL = 8, 5, 0.05
# A residual above this part of λ₁ after the products asked for says that the last vector was no start: then, too, there
# are up to eight.
STALE = 0.2


@dataclass(frozen=True, slots=True)
class Enough(Stop):
    """Stops at the tolerance, or after so many products unless the residual says that they found nothing."""

    matvecs: int = 3

    def met(self, found: Ritz, error: Bounds) -> bool:
        spent = len(found.values) >= self.matvecs
        return self.within(found, error) or (spent and found.residuals[0] <= STALE * abs(found.values[0]))


def sharpness(operator: Curvature, question: Question, matvecs: int) -> Answer:
    """λ₁, its bound and its vector from ``matvecs`` products, or from up to eight without a vector to go on from."""
    posed = described(operator, question)
    if posed is None:
        return diverged(basics(operator, question))
    generator = arrays(operator.gradient).generator(question.seed)
    gradient = operator.gradient if posed.scaling is None else posed.scaling * operator.gradient
    part = FEW.get(matvecs, 1.0)
    start = continued(gradient, question.warm, (part * SECOND, part * MIX), generator, operator.space)
    if question.agree is not None:
        start = question.agree(start)
    cold = not question.warm
    stop = (
        Stop(COLD_TOL, floor=operator.floor, gap=False, least=COLD_LEAST)
        if cold
        else Enough(question.settings.rho_tol, floor=operator.floor, gap=False, matvecs=matvecs)
    )
    solve = lanczos(
        scaled(operator, posed.scaling),
        start,
        max_matvecs=max(matvecs, COLD_MATVECS),
        stop=stop,
        generator=generator,
        basis=new_basis(operator, question.settings),
        want=2,
    )
    posed.said["matvecs"] = solve.matvecs
    if solve.outcome is Outcome.NON_FINITE or solve.found is None or solve.error is None:
        return diverged(posed.said)
    posed.said["memory"] = solve.peak_bytes
    # After so few products what separates λ₁ from the rest is not known, so that the quadratic bound would be a guess.
    bound = finite(max(solve.error.rho, float(solve.found.residuals[0])))
    found = Spectrum("ok", solve.outcome, rho=float(solve.found.values[0]), rho_bound=bound, **posed.said)
    return Answer(found, solve.vectors, noise(solve))
