"""What every framework's arrays must do, as one suite that a test file runs for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcao_client.spectrum.arrays import arrays
from dcao_client.spectrum.basis import Basis
from dcao_client.spectrum.hutchinson1989 import trace
from dcao_client.spectrum.lanczos import lanczos
from dcao_client.spectrum.stop import Stop
from dcao_client.spectrum.ubaru2017slq import density
from dcao_client.spectrum.vectors import Space, norm

SPECTRUM = np.concatenate([[100.0, 95.0, 60.0, 40.0, 25.0], np.linspace(-5.0, 10.0, 995)])
NEVER = Stop(rho_tol=0.0, gamma_tol=0.0, gamma_floor=0.0, floor=1e-300)


class Suite:
    """Theorems on a prescribed spectrum, in single precision."""

    @staticmethod
    def made(values: np.ndarray) -> Any:
        """A vector of the framework."""
        raise NotImplementedError

    def _random(self, seed: int = 0, n: int = 1000) -> Any:
        return self.made(np.random.default_rng(seed).standard_normal(n))

    @pytest.mark.parametrize("slab", [1, 2, 8])
    def test_the_top_is_found_with_and_without_a_restart(self, slab: int) -> None:
        diagonal, start = self.made(SPECTRUM), self._random()
        for most in (None, 6):
            basis = Basis(start, slab=slab)
            found = lanczos(lambda v: diagonal * v, start, max_matvecs=40, stop=NEVER, basis=basis, max_basis=most)
            assert found.found is not None
            np.testing.assert_allclose(found.found.values[:2], [100.0, 95.0], rtol=2e-5)
            v = np.stack([np.asarray(basis.row(i, start), np.float64) for i in range(basis.count)])
            np.testing.assert_allclose(v @ v.T, np.eye(basis.count), atol=3e-6)
            top = np.abs(np.asarray(found.vectors[0]))
            assert top[0] == pytest.approx(1.0, abs=1e-3)

    def test_inner_products_are_summed_in_double(self) -> None:
        """Three million entries of one sign: single precision alone is off by 1e-4."""
        numbers = np.random.default_rng(1).random(3_000_000).astype(np.float32)
        row = self.made(numbers)
        exact = float(numbers.astype(np.float64) @ numbers.astype(np.float64))
        assert norm(row) ** 2 == pytest.approx(exact, rel=3e-6)
        basis = Basis(row)
        basis.append(row)
        assert float(basis.inner(row)[0]) == pytest.approx(exact, rel=3e-6)

    def test_a_product_that_returns_its_own_vector_does_no_harm(self) -> None:
        start = self._random()
        found = lanczos(lambda v: v, start, max_matvecs=5, stop=NEVER)
        assert found.found is not None
        np.testing.assert_allclose(found.found.values, 1.0, rtol=1e-6)

    def test_the_start_is_not_written(self) -> None:
        start = self._random()
        before = np.asarray(start).copy()
        diagonal = self.made(SPECTRUM)
        lanczos(lambda v: diagonal * v, start, max_matvecs=5, stop=NEVER)
        np.testing.assert_array_equal(np.asarray(start), before)

    def test_what_is_not_finite_ends_the_solve(self) -> None:
        poison = self.made(np.where(np.arange(1000) == 3, np.nan, 1.0))
        found = lanczos(lambda v: poison * v, self._random(), max_matvecs=5, stop=NEVER)
        assert found.outcome == "non_finite"

    def test_trace_and_density(self) -> None:
        """On a diagonal the trace is exact from one sample; the density's mean is tr(A)/n to the sampling error."""
        diagonal, like = self.made(SPECTRUM), self.made(np.zeros(1000))
        of = arrays(like)
        found = trace(lambda v: diagonal * v, like, 2, of.generator(0), Space(1000))
        assert found.value == pytest.approx(SPECTRUM.sum(), rel=1e-5)
        spread = density(
            lambda v: diagonal * v, like, steps=20, samples=10, generator=of.generator(0), space=Space(1000)
        )
        assert float(spread.nodes @ spread.weights) == pytest.approx(SPECTRUM.mean(), rel=1e-3)

    def test_generators_are_their_own(self) -> None:
        like = self.made(np.zeros(4))
        of = arrays(like)
        one, two = (np.asarray(of.normal(of.generator(5), 2000, like)) for _ in range(2))
        np.testing.assert_array_equal(one, two)
        assert abs(one.mean()) < 0.1
        assert one.std() == pytest.approx(1.0, abs=0.1)
        assert set(np.unique(np.asarray(of.signs(of.generator(1), 100, like)))) == {-1.0, 1.0}
        drawn = of.generator(5)
        assert not np.array_equal(np.asarray(of.normal(drawn, 9, like)), np.asarray(of.normal(drawn, 9, like)))
