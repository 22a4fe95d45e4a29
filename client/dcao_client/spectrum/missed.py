"""How far above θ₂ an eigenvalue may lie that the start vector hardly holds.

After k steps the next residual is p(A)q₁ / Πβᵢ with p(λ) = Π(λ − θᵢ) over the Ritz values (Parlett §12.4), a unit
vector. So every eigenvector of which q₁ holds the share c satisfies

    c · |p(λ)| ≤ Πβᵢ,

which no eigenvalue can do that lies where p is large: the wider the hump of p between θ₂ and θ₁, the closer to θ₂ a
missed λ₂ has to be. It is no bound without c, which nobody knows; ``SHARE`` is what was assumed. Nor does it exclude a
second eigenvalue at θ₁ itself: a double λ₁ is one to every Krylov method.
"""

from __future__ import annotations

import numpy as np

from dcao_client.spectrum.ritz import Array

# The share of v₂ that a start is credited with. Of 1,000 gradients of small networks 18 held less, and γ was inside
# its bound each time; of 1,500 others it was not once (``tests/client/spectrum/test_random_networks.py``).
SHARE = 4e-3
# Parameters up to which it is: beyond, half a product to one and a half more would be no trifle any more.
CREDITED = 16_384
# Distances tried, as parts of θ₁ − θ₂, a twelfth apart: the answer is rounded up to one.
PARTS = np.geomspace(1e-12, 1.0, 361)


def missed(zeros: Array, log_product: float, top: float, second: float, share: float = SHARE) -> float:
    """The distance above θ₂ within which λ₂ lies, at most θ₁ − θ₂.

    Args:
        zeros: of p: the Ritz values, and those that restarts discarded.
        log_product: log Πβᵢ.
        top: θ₁.
        second: θ₂.
        share: c.

    >>> missed(np.array([3.0, 1.0]), np.log(1e-4), 3.0, 1.0, share=0.1) < 1e-3
    True
    """
    distances = PARTS * (top - second)
    with np.errstate(divide="ignore"):
        room = np.log(np.abs(second + distances[:, None] - zeros[None])).sum(axis=1)
    excluded = np.log(share) + room > log_product
    return float(distances[np.argmax(excluded)]) if excluded.any() else float(top - second)
