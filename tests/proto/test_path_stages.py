"""Each stage of the law `default` alone, by values worked out by hand."""

import math

import pytest

from dcao_proto.policy.path import (
    HUGE,
    TINY,
    Followed,
    PathParameters,
    ceiling,
    follow,
    least,
    leeway_of,
    margin_of,
    next_probe,
    push_of,
)

OF = PathParameters()


@pytest.mark.parametrize(
    ("optimizer", "momentum", "push"),
    [
        ("schedule_free_adam", 0.9, 2.5),
        ("schedule_free_sgd", 0.9, 2.5),
        ("schedule_free_muon", 0.9, 1.2),
        ("adamw", 0.9, 2.2),
        ("adagrad", 0.0, 2.2),
        ("sgd", 0.0, 2.2),
        ("sgd", 0.75, 0.55),  # a sum of gradients is four times as long
        ("nesterov", 0.5, 1.1),
        ("rmsprop", 0.5, 1.1),
    ],
)
def test_the_push_is_that_of_an_average_or_of_weights_less_what_momentum_sums(optimizer, momentum, push):
    assert push_of(OF, optimizer, momentum) == pytest.approx(push, rel=1e-15)
    assert push_of(PathParameters(push=3.0), optimizer, momentum) == 3.0


@pytest.mark.parametrize(
    ("optimizer", "step", "leeway"),
    [("adamw", 0, 1.5), ("adam", 15, 1.5), ("adamw", 16, 1.0), ("sgd", 0, 1.0), ("schedule_free_adam", 0, 1.0)],
)
def test_only_the_adam_family_gets_leeway_and_only_for_sixteen_steps(optimizer, step, leeway):
    assert leeway_of(OF, optimizer, step) == leeway
    assert leeway_of(PathParameters(leeway=1.0), optimizer, step) == 1.0


@pytest.mark.parametrize(
    ("optimizer", "momentum", "margin"),
    [
        ("schedule_free_adam", 0.9, 4.0),
        ("schedule_free_muon", 0.9, 8.0),
        ("sgd", 0.9, 1.5),
        ("adamw", 0.9, 1.0),
        ("adamw", 0.0, 2.0),  # 4·(1−β)/(2(1+β)): C·threshold is 4
        ("adamw", 0.2, 4 * 0.8 / 2.4),
        ("adamw", 1 / 3, 1.0),
    ],
)
def test_the_margin_widens_where_the_edge_of_the_adam_family_is_near(optimizer, momentum, margin):
    assert margin_of(OF, optimizer, momentum) == pytest.approx(margin, rel=1e-15)
    assert margin_of(PathParameters(margin=0.5), optimizer, momentum) == 0.5


def test_sharpness_is_none_until_a_positive_one_is_measured():
    assert follow(None, -3.0, 0, OF) is None
    assert follow(None, 0.0, 0, OF) is None
    assert follow(None, 5.0, 0, OF) == Followed(5.0, False)


@pytest.mark.parametrize(
    ("before", "rho", "seen", "after"),
    [
        (2.0, 6.0, 5, Followed(6.0, False)),  # at once
        (2.0, 8.0, 5, Followed(8.0, False)),  # fourfold is still allowed
        (2.0, 9.0, 5, Followed(8.0, True)),
        (2.0, 2e4, 2, Followed(2e4, False)),  # the third measurement may still correct an absurdly low one
        (2.0, 2e4, 3, Followed(8.0, True)),
        (9.0, 4.0, 5, Followed(6.0, False)),  # half-way in ln λ: √(9·4)
        (8.0, 2.0, 5, Followed(4.0, False)),  # √(8·2) is just the half
        (8.0, 1.0, 5, Followed(4.0, True)),
        (8.0, 1.0, 0, Followed(4.0, True)),  # downwards also at the start
        (8.0, -1.0, 5, Followed(4.0, True)),  # no curvature: as far as it may
    ],
)
def test_sharpness_follows_at_once_upwards_and_half_way_downwards(before, rho, seen, after):
    value, limited = follow(before, rho, seen, OF)
    assert (pytest.approx(value, rel=1e-15), limited) == after


def test_the_slew_limits_are_parameters_and_the_ends_stay_numbers():
    narrow = PathParameters(rise=1.5, fall=1.25)
    assert follow(2.0, 9.0, 3, narrow) == Followed(3.0, True)
    assert follow(10.0, 1.0, 3, narrow) == Followed(8.0, True)
    assert follow(None, math.inf, 0, OF) == Followed(HUGE, False)
    assert follow(HUGE, HUGE, 9, OF) == Followed(HUGE, False)
    assert follow(TINY, 0.0, 9, OF) == Followed(TINY, True)


@pytest.mark.parametrize(
    ("optimizer", "momentum", "held"),
    [
        ("schedule_free_adam", 0.9, 4 * 2 / 16),
        ("schedule_free_muon", 0.9, 8 * 2 / 16),
        ("sgd", 0.5, 1.5 * 3 / 16),
        ("nesterov", 0.5, 1.5 * 1.5 / 16),
        ("adamw", 0.5, 1 * 6 / 16),
        ("adamw", 0.0, 2 * 2 / 16),
        ("other", 0.9, None),  # no threshold is known
    ],
)
def test_the_ceiling_is_a_multiple_of_the_edge(optimizer, momentum, held):
    found = ceiling(16.0, OF, optimizer, momentum)
    assert found == (None if held is None else pytest.approx(held, rel=1e-15))
    assert ceiling(None, OF, optimizer, momentum) is None


def test_a_ceiling_over_next_to_no_curvature_is_still_a_number():
    assert ceiling(TINY, PathParameters(margin=1e9), "sgd", 0.9) == HUGE


def test_the_smaller_of_two_bounds_counts_where_there_are_two():
    assert [least(2.0, 3.0), least(3.0, 2.0), least(None, 2.0), least(2.0, None), least(None, None)] == [
        2,
        2,
        2,
        2,
        None,
    ]


def test_probes_come_at_powers_of_two_and_then_at_the_interval():
    """0, 1, 2, 4, 8, 16, 32, 64: each step doubles until the interval is reached."""
    steps, step = [], 0
    while step <= 96:
        steps.append(step)
        step += next_probe(step, 32)
    assert steps == [0, 1, 2, 4, 8, 16, 32, 64, 96]
    assert next_probe(3, 2) == 2
