"""Theorems on prescribed spectra: the solver is right, and its plain twin shows why each precaution is there."""

import numpy as np
import pytest
import torch

from dcao_client.spectrum.basis import Basis
from dcao_client.spectrum.lanczos import Solve, lanczos
from dcao_client.spectrum.lanczos_plain import lanczos_plain
from dcao_client.spectrum.result import Outcome
from dcao_client.spectrum.stop import Stop

NEVER = Stop(rho_tol=0.0, gamma_tol=0.0, gamma_floor=0.0, floor=1e-300)


def _spectrum(ratio: float, n: int = 4000) -> torch.Tensor:
    """A network-like spectrum: outliers at the top with λ₁/λ₂ = ratio, a bulk near zero, a small negative edge."""
    top = torch.tensor([100.0, 100.0 / ratio, 60.0, 40.0, 25.0], dtype=torch.float64)
    bulk = torch.linspace(-5.0, 10.0, n - len(top), dtype=torch.float64)
    return torch.cat([top, bulk])


def _solve(values: torch.Tensor, *, steps: int = 20, dtype: torch.dtype = torch.float32, **options: object) -> Solve:
    diagonal = values.to(dtype)
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(len(values), generator=generator, dtype=dtype)
    settings: dict[str, object] = {"stop": NEVER, "max_matvecs": steps, **options}
    return lanczos(lambda v: diagonal * v, start, generator=generator, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("ratio", [1.3, 1.05, 1.02, 1.005])
def test_the_gap_is_right_down_to_half_a_percent(ratio: float) -> None:
    values = _spectrum(ratio)
    found = _solve(values).found
    assert found is not None
    gap = 100.0 - 100.0 / ratio
    assert found.values[0] == pytest.approx(100.0, rel=1e-5)
    assert found.values[0] - found.values[1] == pytest.approx(gap, rel=0.02)


def test_without_reorthogonalisation_a_ghost_of_the_first_eigenvalue_hides_the_gap() -> None:
    """The twin's steps are ours minus one precaution: it reports a gap of nothing where we report half of λ₁."""
    values = torch.cat([torch.tensor([100.0, 50.0, 20.0]), torch.linspace(-1.0, 1.0, 3997)])
    start = torch.randn(4000, generator=torch.Generator().manual_seed(1))
    ghost = lanczos_plain(lambda v: values * v, start, 20, reorthogonalise=False)
    cured = lanczos_plain(lambda v: values * v, start, 20, reorthogonalise=True)
    assert float(ghost[0] - ghost[1]) < 1.0
    assert float(cured[0] - cured[1]) == pytest.approx(50.0, rel=1e-4)
    ours = _solve(values.double()).found
    assert ours is not None
    assert ours.values[0] - ours.values[1] == pytest.approx(50.0, rel=1e-4)


def test_it_walks_with_its_plain_twin_in_double_precision() -> None:
    values = _spectrum(1.05)
    start = torch.randn(len(values), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for steps in (1, 2, 7, 15):
        plain = lanczos_plain(lambda v: values * v, start, steps, reorthogonalise=True)
        ours = lanczos(
            lambda v: values * v, start, max_matvecs=steps, stop=NEVER, generator=torch.Generator().manual_seed(0)
        ).found
        assert ours is not None
        np.testing.assert_allclose(ours.values, plain, atol=1e-9)


def test_the_recurrence_and_the_orthogonality_hold() -> None:
    """A V = V T + β v₊ eₖᵀ and VᵀV = 1 to single precision after twenty steps."""
    values = _spectrum(1.05).float()
    basis = Basis(values)
    _solve(values.double(), basis=basis)
    v = torch.stack([basis.row(i, values) for i in range(basis.count)]).double()
    np.testing.assert_allclose((v @ v.T).numpy(), np.eye(20), atol=2e-6)
    t = v @ (v * values.double()).T
    residual = (v * values.double()) - t @ v
    assert float(residual[:-1].norm(dim=1)[:-1].max()) < 2e-4


@pytest.mark.parametrize("basis_kind", ["full", "bf16"])
def test_a_thick_restart_with_six_vectors_finds_the_same_top(basis_kind: str) -> None:
    values = _spectrum(1.05)
    basis = Basis(values.float(), kind=basis_kind)
    solve = _solve(values, steps=24, basis=basis, max_basis=6)
    assert solve.found is not None
    assert len(solve.found.values) <= 6
    tolerance = 1e-5 if basis_kind == "full" else 1e-3
    assert solve.found.values[0] == pytest.approx(100.0, rel=tolerance)
    assert solve.found.values[1] == pytest.approx(100.0 / 1.05, rel=tolerance)


def test_bounds_contain_the_truth_when_it_stops_early() -> None:
    for ratio in (1.3, 1.1, 1.05):
        solve = _solve(_spectrum(ratio), stop=Stop())
        assert solve.outcome is Outcome.CONVERGED
        assert solve.matvecs < 20
        assert solve.found is not None
        assert solve.error is not None
        assert abs(solve.found.values[0] - 100.0) <= solve.error.rho
        gap = float(solve.found.values[0] - solve.found.values[1])
        assert abs(gap - (100.0 - 100.0 / ratio)) <= solve.error.gamma
        assert solve.error.rho <= 1.0
        assert solve.error.gamma <= max(0.05 * gap, 1.0)


def test_an_exactly_double_eigenvalue_is_seen_once_the_space_is_exhausted() -> None:
    values = torch.tensor([3.0, 3.0, 1.0], dtype=torch.float64)
    solve = lanczos(
        lambda v: values * v,
        torch.ones(3, dtype=torch.float64),
        max_matvecs=10,
        stop=NEVER,
        generator=torch.Generator().manual_seed(0),
    )
    assert solve.found is not None
    np.testing.assert_allclose(solve.found.values, [3.0, 3.0, 1.0], atol=1e-12)
    assert solve.outcome is Outcome.CONVERGED


def test_a_start_that_is_an_eigenvector_does_not_end_the_search() -> None:
    values = torch.tensor([2.0, 9.0, 5.0, -1.0], dtype=torch.float64)
    start = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    solve = lanczos(lambda v: values * v, start, max_matvecs=10, stop=NEVER, generator=torch.Generator().manual_seed(0))
    assert solve.found is not None
    np.testing.assert_allclose(solve.found.values, [9.0, 5.0, 2.0, -1.0], atol=1e-12)


def test_the_largest_algebraic_value_is_reported_where_the_most_negative_is_larger() -> None:
    values = torch.cat([torch.tensor([10.0, 7.0, -500.0]), torch.linspace(-1.0, 1.0, 500)]).double()
    found = _solve(values, dtype=torch.float64).found
    assert found is not None
    assert found.values[0] == pytest.approx(10.0, rel=1e-6)
    assert found.values[-1] == pytest.approx(-500.0, rel=1e-6)


def test_a_one_dimensional_space_has_no_gap_and_says_breakdown() -> None:
    solve = lanczos(
        lambda v: 4.0 * v,
        torch.ones(1, dtype=torch.float64),
        max_matvecs=5,
        stop=Stop(),
        generator=torch.Generator().manual_seed(0),
    )
    assert solve.outcome is Outcome.BREAKDOWN
    assert solve.found is not None
    assert solve.found.values.tolist() == [4.0]


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_product_that_is_not_finite_is_an_outcome_not_an_exception(poison: float) -> None:
    solve = lanczos(
        lambda v: v * poison, torch.ones(5), max_matvecs=5, stop=Stop(), generator=torch.Generator().manual_seed(0)
    )
    assert solve.outcome is Outcome.NON_FINITE
    assert solve.vectors == ()


def test_the_zero_operator_has_zero_curvature() -> None:
    solve = lanczos(
        torch.zeros_like, torch.ones(4), max_matvecs=8, stop=Stop(), generator=torch.Generator().manual_seed(0)
    )
    assert solve.found is not None
    assert solve.found.values[0] == 0.0
    assert solve.found.values[1] == 0.0


def test_inner_products_keep_their_accuracy_on_three_million_entries() -> None:
    """A plain float32 matrix-vector product is off by 1e-4 or more here; the chunked one is good to 1e-6."""
    n = 3_000_000
    row = torch.rand(n, generator=torch.Generator().manual_seed(0))
    basis = Basis(row)
    basis.append(row)
    exact = float((row.double() * row.double()).sum())
    assert float(basis.inner(row)[0]) == pytest.approx(exact, rel=1e-6)
