"""Which answers a run allows."""

import pytest
from hypothesis import given, settings

from dcao_proto import Bounds, Hyperparameters, Multipliers, Observation, RunSpec
from dcao_proto.decision import GroupMultiplier
from dcao_proto.judge import judge
from dcao_proto.policy import PolicyState, bind, policies
from tests.proto import strategies as a

SPEC = RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1, momentum=0.9, weight_decay=5e-4), probe_interval=10)
SEEN = Observation(step=30, rho=3.0, gamma=1.0)
GOOD = bind(SPEC).decide(SEEN, PolicyState(), 0)


@given(spec=a.specs, observation=a.observations)
@settings(max_examples=300, deadline=None)
def test_whatever_a_law_of_ours_decides_is_allowed(spec, observation):
    """The judge never stands between a run and its own law."""
    if spec.workers > 1:
        spec = spec.model_copy(update={"workers": 1})
    bare = observation.model_copy(update={"state": None, "version": None})
    assert judge(spec, bare, bind(spec).decide(bare, PolicyState(), 0)) is None


def times(**factors: float) -> dict[str, object]:
    return {"multipliers": Multipliers(**factors)}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"lr": 1000.0, **times(lr=1e4)}, "multiplier on lr"),
        ({"lr": 0.0, **times(lr=0.0)}, "multiplier on lr"),
        (times(lr=1e300), "multiplier on lr"),
        ({"multipliers": GOOD.multipliers.model_copy(update={"lr": float("nan")})}, "not finite"),
        ({"lr": float("inf")}, "not finite"),
        ({"lr": 1000.0}, "lr"),
        ({"momentum": 0.99999999}, "momentum"),
        ({"momentum": 0.99999999, **times(momentum=0.99999999 / 0.9)}, "momentum"),
        ({"weight_decay": 500.0, **times(weight_decay=1e6)}, "multiplier on weight_decay"),
        ({"weight_decay": 500.0}, "weight_decay"),
        ({"next_probe_in": 10**18}, "next_probe_in"),
        ({"next_probe_in": 10**5000}, "next_probe_in"),
        ({"next_probe_in": 1001}, "next_probe_in"),
        ({"step": 31}, "step"),
        ({"attempt": 2}, "attempt"),
        ({"policy": "paper@1"}, "policy"),
        ({"policy": "default@" + "1" * 5000}, "policy"),
        ({"ceiling": 1e-9, "lr": 1e-9}, "ceiling"),
        ({"ceiling": 1e300}, "ceiling"),
        ({"regime": "pending"}, "regime"),
        ({"reasons": ("a",) * 65}, "reasons"),
        ({"groups": (GroupMultiplier(name="head", multiplier=1e6),)}, "multiplier on lr of a group"),
        ({"groups": (GroupMultiplier(name="head", multiplier=0.0),)}, "multiplier on lr of a group"),
    ],
)
def test_what_the_run_does_not_allow_is_named(change, fault):
    """Each value is judged against the bounds, and the fault says which."""
    found = judge(SPEC, SEEN, GOOD.model_copy(update=change))
    assert found is not None
    assert found.startswith(f"{fault}: ")
    assert len(found) < 300


@pytest.mark.parametrize("policy", [policy.name for policy in policies()])
def test_a_newer_version_of_the_policy_is_allowed(policy):
    """What it decides is within the same bounds; only the name was declared."""
    spec = SPEC.model_copy(update={"policy": SPEC.policy.model_copy(update={"name": policy})})
    decision = bind(spec).decide(SEEN, PolicyState(), 0)
    assert judge(spec, SEEN, decision.model_copy(update={"policy": f"{policy}@7"})) is None


def test_momentum_that_the_user_set_above_the_cap_is_kept():
    """The cap limits what is added."""
    spec = SPEC.model_copy(update={"base": Hyperparameters(lr=0.1, momentum=0.999), "bounds": Bounds()})
    assert judge(spec, SEEN, bind(spec).decide(SEEN, PolicyState(), 0)) is None


def test_workers_that_decide_together_may_get_values_on_anothers_base():
    """Within their own bounds, and pending is an answer there."""
    spec = SPEC.model_copy(update={"workers": 4, "aggregate": "mean"})
    other = {"lr": 0.11, "regime": "pending", "next_probe_in": 1}
    assert judge(spec, SEEN, GOOD.model_copy(update=other)) is None
    assert judge(spec, SEEN, GOOD.model_copy(update={"lr": 0.21})) is not None
