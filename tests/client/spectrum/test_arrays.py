"""One mathematics over every framework's arrays: torch's beside NumPy's, the plainest (JAX's: tests/frameworks)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dcao_client.spectrum.arrays import arrays
from dcao_client.spectrum.basis import Basis
from dcao_client.spectrum.lanczos import Solve, lanczos
from dcao_client.spectrum.starts import continued, start_vector
from dcao_client.spectrum.stop import Stop
from dcao_client.spectrum.vectors import Space
from tests.client.spectrum.array_suite import SPECTRUM, Suite


class TestNumPy(Suite):
    """The twin itself."""

    @staticmethod
    def made(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32)


class TestTorch(Suite):
    """In place."""

    @staticmethod
    def made(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))


def test_what_is_no_array_is_told_which_are() -> None:
    with pytest.raises(TypeError, match=r"expected an array of jax, numpy, tensorflow, torch; got builtins\.list"):
        arrays([1.0])


def test_frameworks_find_the_same() -> None:
    """From the same start, to rounding: values, bounds and products spent."""

    def solved(start: object, diagonal: object) -> Solve:
        return lanczos(lambda v: diagonal * v, start, max_matvecs=20, stop=Stop(), max_basis=8)

    start = np.random.default_rng(3).standard_normal(len(SPECTRUM)).astype(np.float32)
    values = SPECTRUM.astype(np.float32)
    plain, ours = solved(start, values), solved(torch.from_numpy(start.copy()), torch.from_numpy(values))
    assert plain.found is not None
    assert ours.found is not None
    assert plain.matvecs == ours.matvecs
    np.testing.assert_allclose(ours.found.values[:2], plain.found.values[:2], rtol=1e-5)


def test_starts_go_by_the_same_rule() -> None:
    """Signs, lengths and shares of what a start is made of."""
    rng = np.random.default_rng(0)
    gradient, one, two = (rng.standard_normal(50).astype(np.float32) for _ in range(3))
    for made in (lambda a: a, torch.from_numpy):
        g, last = made(gradient.copy()), (made(one.copy()), made(two.copy()))
        found = np.asarray(continued(g, last, (0.3, 0.2), arrays(g).generator(0), Space(50)))
        unit = [v / np.linalg.norm(v) * np.sign(v @ gradient) for v in (one, two)]
        expected = unit[0] + 0.3 * unit[1] + 0.2 * gradient / np.linalg.norm(gradient)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        combined = np.asarray(start_vector("combined", g, last, arrays(g).generator(0), Space(50)))
        rest = combined - gradient / np.linalg.norm(gradient) - unit[0] - unit[1]
        assert np.linalg.norm(rest) == pytest.approx(0.1, rel=1e-4)  # the random part


def test_a_basis_in_half_precision_takes_half_the_room() -> None:
    row = torch.randn(1000)
    sizes = []
    for kind in ("full", "bf16", "cpu_bf16"):
        basis = Basis(row, kind=kind)
        basis.append(row)
        sizes.append(basis.peak_bytes)
    assert sizes == [8000, 4000, 4000]
