"""When a solve is believed."""

from __future__ import annotations

import numpy as np
import pytest

from dcao_client.spectrum.ritz import Ritz, bounds
from dcao_client.spectrum.stop import Stop

NOTHING = Ritz(np.zeros(0), np.zeros((0, 0)), np.zeros(0))


def ritz(values: list[float], residuals: list[float]) -> Ritz:
    return Ritz(np.array(values), np.eye(len(values)), np.array(residuals))


@pytest.mark.parametrize(
    ("before", "after", "stops"),
    [(0.4, 0.1, True), (0.4, 0.2, False), (0.2, 0.1, False), (0.9, 0.3, False), (0.06, 0.05, True)],
)
def test_a_residual_is_small_or_falls_fast(before: float, after: float, stops: bool) -> None:
    """γ = 2, so 0.1 is allowed: half of it is enough; up to twice of it if one product left two fifths of it."""
    values = [10.0, 8.0, 3.0]
    found = ritz(values, [1e-3, after, 0.5])
    assert Stop().met(found, bounds(found, 1e-6), ritz(values, [1e-2, before, 0.5])) is stops


def test_the_first_pairs_have_no_past_to_fall_from() -> None:
    found = ritz([10.0, 8.0], [1e-3, 0.09])
    assert not Stop().met(found, bounds(found, 1e-6), NOTHING)


def test_a_dull_direction_bounds_nothing() -> None:
    """θ₂ = 0.02 with a residual of 0.3: small beside λ₁, but λ₂ may be anything up to λ₁."""
    found = ritz([10.0, 0.02, 0.01], [1e-3, 0.3, 0.3])
    assert bounds(found, 1e-6).gamma >= 9.9
    assert not Stop().within(found, bounds(found, 1e-6))


def test_fewer_ritz_values_than_asked_for_are_not_believed() -> None:
    found = ritz([10.0, 8.0, 3.0], [1e-6, 1e-6, 1e-6])
    assert Stop(least=3).met(found, bounds(found, 1e-6), NOTHING)
    assert not Stop(least=4).met(found, bounds(found, 1e-6), NOTHING)


def test_without_a_gap_only_rho_counts() -> None:
    found = ritz([10.0, 8.0], [1e-3, 5.0])
    assert Stop(gap=False).met(found, bounds(found, 1e-6), NOTHING)
