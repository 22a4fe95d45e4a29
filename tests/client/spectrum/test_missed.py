"""What a start that hardly holds an eigenvector may hide, on spectra that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dcao_client.spectrum import lanczos as solver
from dcao_client.spectrum.lanczos import Solve, lanczos
from dcao_client.spectrum.missed import CREDITED, SHARE, missed
from dcao_client.spectrum.stop import Stop

LOWER = np.linspace(-1.0, 5.0, 60)


def solve(hidden: float, share: float, *, size: int = 62, max_basis: int | None = None, most: int = 20) -> Solve:
    """λ₁ = 10, one eigenvalue at ``hidden`` of which the start holds ``share``, and sixty lower ones."""
    values = np.concatenate([[10.0, hidden], LOWER, np.zeros(size - 62)])
    diagonal = torch.from_numpy(values)
    start = torch.ones(size, dtype=torch.float64)
    start[1] = 0.0
    start = start / start.norm()
    start[1] = share
    generator = torch.Generator().manual_seed(0)
    stop = Stop(floor=1e-13)
    return lanczos(lambda v: diagonal * v, start, max_matvecs=most, stop=stop, generator=generator, max_basis=max_basis)


@pytest.mark.parametrize("hidden", [5.2, 5.6, 6.0, 7.0, 8.0, 9.0])
@pytest.mark.parametrize("share", [SHARE, 3 * SHARE, 0.1])
@pytest.mark.parametrize("max_basis", [None, 8])
def test_the_bound_of_the_gap_holds_whatever_is_missed(hidden: float, share: float, max_basis: int | None) -> None:
    for most in range(3, 20):
        found = solve(hidden, share, max_basis=max_basis, most=most)
        assert found.found is not None
        assert found.error is not None
        gap = float(found.found.values[0] - found.found.values[1])
        assert abs(gap - (10.0 - hidden)) <= max(found.error.gamma, 0.05 * (10.0 - hidden)), (most, found.matvecs)


def test_without_it_the_same_solve_is_content_with_the_third_eigenvalue(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above would find: the residuals alone let the solve stop, under a bound that does not hold."""
    monkeypatch.setattr(solver, "CREDITED", 0)
    wrong = []
    for hidden in np.arange(5.2, 6.6, 0.1):
        found = solve(float(hidden), SHARE)
        assert found.found is not None
        assert found.error is not None
        off = abs(float(found.found.values[0] - found.found.values[1]) - (10.0 - hidden))
        wrong.append(off > max(found.error.gamma, 0.05 * (10.0 - hidden)))
    assert any(wrong)


def test_what_a_large_solve_costs_is_left_alone() -> None:
    assert solve(6.0, 0.1, size=CREDITED + 1).missed == 0.0


def test_a_polynomial_that_is_small_everywhere_excludes_nothing() -> None:
    assert missed(np.array([3.0, 1.0]), 10.0, 3.0, 1.0) == 2.0
