"""The checks of the theory find what is known: of problems by hand, of rates that were made up."""

import numpy as np
import pytest

from dcao_experiments.theory.checks import (
    alignment,
    fitted,
    mean_squared_gradient,
    path_gap,
    ritz_value,
    schedule,
)
from dcao_experiments.theory.problems import absolute, network, quadratic, waves


def test_the_probing_schedule_is_the_proposition_s() -> None:
    assert schedule(10_000) == (100, 10)
    assert schedule(101) == (11, 5)


def test_a_rate_is_found_again() -> None:
    made_up = {n: 3 * np.log(n) / np.sqrt(n) + 50 / n for n in (100, 1000, 10_000, 100_000)}
    found = fitted(made_up)
    assert (found.c1, found.c2) == (pytest.approx(3, rel=1e-6), pytest.approx(50, rel=1e-6))
    assert found.worst < 1e-6
    assert fitted({n: n**-0.5 for n in (100, 1000)}).slope == pytest.approx(-0.5)
    with pytest.raises(ValueError, match="positive values at two lengths"):
        fitted({100: 1.0})


@pytest.mark.parametrize("make", [quadratic, waves, network])
def test_gradients_and_hessians_are_those_of_the_value(make) -> None:
    problem = make(3)
    w = problem.start + 0.1
    draw = np.random.default_rng(0)
    for _ in range(3):
        v = draw.normal(size=len(w))
        slope = (problem.value(w + 1e-6 * v) - problem.value(w - 1e-6 * v)) / 2e-6
        assert slope == pytest.approx(float(problem.gradient(w) @ v), rel=1e-4, abs=1e-7)
    h = problem.hessian(w)
    assert np.allclose(h @ v, problem.product(w, v), atol=1e-4 * np.abs(h).max())
    assert ritz_value(problem, w, len(w), draw) == pytest.approx(float(np.linalg.eigvalsh(h)[-1]), rel=1e-4)


def test_longer_runs_have_smaller_gradients_with_the_law_and_without() -> None:
    for law in (True, False):
        short, long = (mean_squared_gradient(quadratic(0), length, 0, law=law) for length in (100, 2000))
        assert long < short / 2


def test_the_path_rate_reaches_the_minimum_of_a_function_with_a_kink() -> None:
    problem = absolute(0)
    assert path_gap(problem, 3000, 0) < 0.01 * problem.value(problem.start)
    with pytest.raises(ValueError, match="minimum is known"):
        path_gap(waves(0), 10, 0)


def test_alignment_is_a_cosine() -> None:
    found = alignment(quadratic(0, gap=9.0), 0, steps=50)
    assert len(found) == 10
    assert all(0 <= cosine <= 1 + 1e-12 for _, cosine in found)
    assert all(gap == pytest.approx(9.0, rel=1e-3) for gap, _ in found)
