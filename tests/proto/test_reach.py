"""Which answers are within reach of the law, where bounds alone would allow a rate of nothing."""

from itertools import pairwise

import pytest
from hypothesis import given, settings

from dcao_proto import Bounds, Decision, Hyperparameters, Multipliers, Observation, Path, PolicyChoice, RunSpec
from dcao_proto.decision import GroupMultiplier
from dcao_proto.judge import judge
from dcao_proto.policy import PolicyState, bind
from dcao_proto.policy.state import LEAST_RETREAT
from dcao_proto.reach import REACH
from tests.proto import strategies as a

BASE = Hyperparameters(lr=0.1, momentum=0.9, weight_decay=5e-4)
SEEN = Observation(step=32, rho=300.0, gamma=1.0, path=Path(distance=2.0, gradients=40.0, steps=32))
OPEN = {
    "guard on the path": RunSpec(optimizer="sgd", base=BASE, scale="path", trust="guard"),
    "auto": RunSpec(optimizer="adamw", base=BASE, scale="path", trust="auto"),
    "guard, the user's scale": RunSpec(optimizer="sgd", base=BASE, trust="guard"),
    "bounds of one's own": RunSpec(
        optimizer="sgd", base=BASE, policy=PolicyChoice(name="edge"), bounds=Bounds(lr=(0.0, 100.0))
    ),
}
SMALL = (0.0, 5e-324, 1e-300, 1e-12)
LARGE = (1e5, 1e300)


def law_of(spec: RunSpec) -> Decision:
    return bind(spec).decide(SEEN, PolicyState(), 0)


def ask(spec: RunSpec, **changed: object) -> str | None:
    """The fault of an answer in which everything fits together but for what was changed."""
    law = law_of(spec)
    answer = law.model_copy(update=changed)
    pushed = BASE.lr * answer.multipliers.lr
    lr = pushed if answer.ceiling is None else min(pushed, answer.ceiling)
    return judge(spec, SEEN, answer.model_copy(update={"lr": lr}), law)


@pytest.mark.parametrize("name", OPEN)
def test_the_law_itself_is_within_reach(name):
    """And so is a newer one that differs by less than the reach."""
    spec = OPEN[name]
    f = law_of(spec).multipliers.lr
    assert ask(spec) is None
    for share in (1.01 / REACH, 0.1, 0.5):
        assert ask(spec, multipliers=Multipliers(lr=f * share)) is None


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.parametrize("share", [*SMALL, 0.99 / REACH])
def test_a_factor_that_would_end_training_is_refused(name, share):
    """Zero, subnormal, absurdly small: within the bounds, and still nothing that the law gives."""
    spec = OPEN[name]
    found = ask(spec, multipliers=Multipliers(lr=law_of(spec).multipliers.lr * share))
    assert found is not None
    assert "within a factor of 16" in found


@pytest.mark.parametrize("name", [name for name in OPEN if "own" not in name])
@pytest.mark.parametrize("share", [*SMALL, *LARGE, None])
def test_a_ceiling_far_from_the_curvatures_is_refused(name, share):
    """Below it ends training, above it or absent it no longer holds what it is there to hold."""
    spec = OPEN[name]
    law = law_of(spec)
    assert law.ceiling is not None
    wanted = None if share is None else min(law.ceiling * share, 1e6)
    found = ask(spec, ceiling=wanted)
    assert found is not None
    assert found.startswith("ceiling: ")


def test_a_factor_far_above_the_laws_is_refused():
    """Within bounds of (0, 100), where the law gives less than 1."""
    found = ask(OPEN["bounds of one's own"], multipliers=Multipliers(lr=99.0))
    assert found is not None
    assert found.startswith("multiplier on lr: ")


def test_a_group_is_not_stopped_either():
    """A factor on one group is a factor."""
    found = ask(OPEN["auto"], groups=(GroupMultiplier(name="head", multiplier=1e-200),))
    assert found is not None
    assert found.startswith("multiplier on lr of a group: ")


@pytest.mark.parametrize("action", ["rollback", "stop"])
def test_nobody_sends_a_healthy_run_back(action):
    """Again and again it would never get anywhere; after a divergence it is the law's own advice."""
    assert "expected to continue" in (ask(OPEN["auto"], action=action) or "")
    spec, diverged = OPEN["auto"], Observation(step=32, status="diverged")
    law = bind(spec).decide(diverged, PolicyState(), 0)
    assert law.action == "rollback"
    assert judge(spec, diverged, law.model_copy(update={"action": action}), law) is None


def test_bounds_that_say_enough_are_left_alone():
    """Within [½, 2] any answer is one that the run allows, whatever the law gives here."""
    spec = RunSpec(optimizer="sgd", base=BASE, bounds=Bounds())
    assert ask(spec, multipliers=Multipliers(lr=0.5), ceiling=None) is None


def test_a_run_that_is_watched_has_no_ceiling():
    """Nothing is changed, also where the base rises before the next decision."""
    spec = RunSpec(optimizer="sgd", base=BASE, trust="watch")
    assert law_of(spec).ceiling is None
    assert (ask(spec, ceiling=0.1) or "").startswith("ceiling: expected none")


def test_of_several_workers_each_may_have_measured_something_else():
    """A joint curvature 1,000 times one's own is believed; a rate of nothing is not."""
    spec = OPEN["guard on the path"].model_copy(update={"workers": 4, "aggregate": "median"})
    law = law_of(spec)
    assert law.ceiling is not None
    assert ask(spec, ceiling=law.ceiling / 1000) is None
    assert ask(spec, ceiling=law.ceiling * 1000) is None
    assert ask(spec, ceiling=1e-200) is not None
    assert ask(spec, multipliers=Multipliers(lr=0.0)) is not None


@given(spec=a.specs, state=a.states, observation=a.observations)
@settings(max_examples=300, deadline=None)
def test_whatever_the_law_decides_from_the_same_state_is_within_reach(spec, state, observation):
    """The client's own law never refuses itself."""
    spec = spec.model_copy(update={"workers": 1})
    bare = observation.model_copy(update={"state": None, "version": None})
    decision = bind(spec).decide(bare, state, 0)
    assert judge(spec, bare, decision, decision) is None


def test_a_state_cannot_remember_more_divergences_than_the_law_counts():
    """The factor that divergences leave has a floor in the law, and so in the state that travels."""
    spec = OPEN["auto"]
    bound, state = bind(spec), PolicyState()
    factors = []
    for step in range(30):
        decision, state = bound.advance(Observation(step=step, status="diverged"), state, 0)
        factors.append(decision.multipliers.lr)
    assert all(later <= earlier for earlier, later in pairwise(factors))
    assert state.retreat == LEAST_RETREAT
    with pytest.raises(ValueError, match="retreat"):
        PolicyState(retreat=1e-300)
