"""The promise on cost, in simulated time."""

import itertools

import pytest

from dcao_client.spectrum import Budget


def _simulate(budget: Budget, steps: int, step_cost: float, probe_cost: float, track_cost: float = 0.0) -> list[int]:
    """Training with exact costs; the steps at which a full measurement was made."""
    at = []
    for step in range(steps):
        budget.stepped(step_cost)
        action = budget.plan(step).action
        if action == "measure":
            budget.probed(probe_cost, "measure")
            at.append(step)
        elif action == "track":
            budget.probed(track_cost, "track")
    return at


@pytest.mark.parametrize("probe_cost", [0.5, 5.0, 40.0])
def test_probes_never_take_more_than_their_share(probe_cost: float) -> None:
    budget = Budget(overhead=0.05, interval=100)
    _simulate(budget, 5000, 1.0, probe_cost)
    assert budget.spent <= 0.05
    assert budget.spent == pytest.approx(min(0.05, probe_cost / (100 + probe_cost)), rel=0.2)


def test_a_cheap_probe_keeps_the_interval_asked_for() -> None:
    at = _simulate(Budget(overhead=0.05, interval=100), 1000, 1.0, 1.0)
    assert {b - a for a, b in itertools.pairwise(at)} == {100}


def test_a_dear_probe_stretches_the_interval_to_what_it_costs() -> None:
    at = _simulate(Budget(overhead=0.05, interval=10, track=False), 2000, 1.0, 5.0)
    assert all(b - a in (95, 96) for a, b in itertools.pairwise(at[1:]))


def test_the_first_probe_borrows_and_is_paid_back() -> None:
    budget = Budget(overhead=0.05, interval=100)
    at = _simulate(budget, 2000, 1.0, 40.0)
    assert at[0] == 0
    assert at[1] >= 40 / 0.05
    assert budget.spent <= 0.05


def test_while_a_measurement_is_too_dear_the_last_vector_is_followed() -> None:
    budget = Budget(overhead=0.05, interval=20)
    actions = []
    for step in range(3000):
        budget.stepped(1.0)
        action = budget.plan(step).action
        if action != "none":
            budget.probed(20.0 if action == "measure" else 0.4, action)
            actions.append(action)
    assert actions.count("track") > 10
    assert actions.count("measure") >= 3
    assert budget.spent <= 0.051


def test_the_part_of_a_batch_follows_from_the_promise_and_not_from_the_clock() -> None:
    assert Budget(overhead=0.05, interval=100).share() == 0.25
    assert Budget(overhead=0.05, interval=400).share() == 1.0
    assert Budget(overhead=0.05, interval=150).share() == 0.5


def test_the_account_goes_through_a_checkpoint() -> None:
    budget = Budget(overhead=0.05, interval=50)
    _simulate(budget, 333, 1.0, 4.0)
    resumed = Budget(overhead=0.05, interval=50)
    resumed.load_state_dict(budget.state_dict())
    for step in range(333, 700):
        budget.stepped(1.0)
        resumed.stepped(1.0)
        assert budget.plan(step) == resumed.plan(step)


@pytest.mark.parametrize(("overhead", "interval"), [(0.0, 10), (1.0, 10), (0.1, 0)])
def test_a_promise_out_of_range_is_refused(overhead: float, interval: int) -> None:
    with pytest.raises(ValueError, match="expected an"):
        Budget(overhead=overhead, interval=interval)
