"""When a solve is believed."""

from __future__ import annotations

import numpy as np
import pytest

from dcao_client.spectrum.ritz import Ritz, bounds
from dcao_client.spectrum.stop import Stop


def ritz(values: list[float], residuals: list[float]) -> Ritz:
    return Ritz(np.array(values), np.eye(len(values)), np.array(residuals))


@pytest.mark.parametrize(("residual", "stops"), [(0.029, True), (0.031, False), (0.09, False)])
def test_the_plain_residual_of_the_second_pair_is_well_within_the_tolerance(residual: float, stops: bool) -> None:
    """γ = 2, so 0.1 is allowed, and three tenths of it: the quadratic bound would be content with 0.09."""
    found = ritz([10.0, 8.0, 3.0], [1e-3, residual, 0.5])
    assert Stop().within(found, bounds(found, 1e-6))
    assert Stop().met(found, bounds(found, 1e-6)) is stops


@pytest.mark.parametrize(("products", "stops"), [(11, False), (12, True)])
def test_after_a_dozen_products_the_residual_may_have_the_whole_tolerance(products: int, stops: bool) -> None:
    found = ritz([10.0, 8.0, *(3.0 - i / 10 for i in range(products - 2))], [1e-3, 0.09, *[0.5] * (products - 2)])
    assert Stop().met(found, bounds(found, 1e-6)) is stops


def test_a_dull_direction_bounds_nothing() -> None:
    """θ₂ = 0.02 with a residual of 0.3: small beside λ₁, but λ₂ may be anything up to λ₁."""
    found = ritz([10.0, 0.02, 0.01], [1e-3, 0.3, 0.3])
    assert bounds(found, 1e-6).gamma >= 9.9
    assert not Stop().within(found, bounds(found, 1e-6))


def test_fewer_ritz_values_than_asked_for_are_not_believed() -> None:
    found = ritz([10.0, 8.0, 3.0], [1e-6, 1e-6, 1e-6])
    assert Stop(least=3).met(found, bounds(found, 1e-6))
    assert not Stop(least=4).met(found, bounds(found, 1e-6))


def test_without_a_gap_only_rho_counts() -> None:
    found = ritz([10.0, 8.0], [1e-3, 5.0])
    assert Stop(gap=False).met(found, bounds(found, 1e-6))
