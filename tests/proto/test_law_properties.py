"""What holds of every policy for any input that the protocol allows."""

import json
import math

import pytest
from hypothesis import example, given, settings

from dcao_proto import Decision, Hyperparameters, Observation, PolicyChoice, RunSpec
from dcao_proto.policy import PolicyState, bind
from tests.proto import strategies as a

MOMENTS = settings(max_examples=300, deadline=None)


def check_bounds(spec: RunSpec, decision: Decision) -> None:
    for name in ("lr", "momentum", "weight_decay"):
        low, high = getattr(spec.bounds, name)
        multiplier = getattr(decision.multipliers, name)
        if name == "momentum":  # the cap may stop a raise, never lower the user's own value
            assert min(low, 1.0) <= multiplier <= high, name
        else:
            assert low <= multiplier <= high, name
    assert 0 <= decision.momentum < 1
    assert decision.lr >= (0.0 if decision.ceiling is None else min(decision.ceiling, 0.0))
    if spec.trust in ("watch", "guard") and spec.scale == "user":
        assert decision.multipliers.lr <= 1
    if spec.trust == "watch":
        assert (decision.multipliers.lr, decision.ceiling) == (1.0, None)


@given(spec=a.specs | a.paper_specs, state=a.states, observation=a.observations)
@MOMENTS
def test_multipliers_stay_in_bounds_and_momentum_below_one(spec, state, observation):
    """No finite input moves a multiplier out of its bounds or the momentum out of [0, 1)."""
    decision = bind(spec).decide(observation, state, 0)
    check_bounds(spec, decision)
    Decision.model_validate(decision.model_dump())  # every field is within what the wire declares


@given(spec=a.specs | a.paper_specs, state=a.states, observation=a.observations)
@MOMENTS
def test_a_decision_is_a_function_of_its_inputs(spec, state, observation):
    """The same inputs give the same decision, whatever was decided in between."""
    first = bind(spec).decide(observation, state, 3)
    bind(spec).decide(Observation(step=1, rho=1.0, gamma=0.1), PolicyState(), 0)
    assert bind(spec).decide(observation, state, 3) == first


@given(spec=a.specs, state=a.states, observation=a.observations)
@MOMENTS
def test_values_are_base_times_multiplier(spec, state, observation):
    """lr and weight decay are exactly base × multiplier, lr at most the ceiling; momentum to rounding at its cap."""
    base = observation.base or spec.base
    decision = bind(spec).decide(observation, state, 0)
    pushed = base.lr * decision.multipliers.lr
    assert decision.lr == (pushed if decision.ceiling is None else min(pushed, decision.ceiling))
    assert decision.weight_decay == base.weight_decay * decision.multipliers.weight_decay
    assert math.isclose(decision.momentum, base.momentum * decision.multipliers.momentum, rel_tol=1e-15)


@given(state=a.states)
@MOMENTS
def test_a_state_round_trips_through_json_exactly(state):
    """What is written and read again is the same state, bit for bit."""
    assert PolicyState.model_validate_json(state.model_dump_json()) == state
    assert PolicyState.model_validate(json.loads(state.model_dump_json(exclude_defaults=True))) == state


@given(spec=a.specs, state=a.states, observation=a.observations)
@MOMENTS
def test_a_token_carries_the_state_exactly(spec, state, observation):
    """Deciding from the token that a decision carries is deciding from its state."""
    bound = bind(spec)
    decision = bound.decide(observation, state, 7)
    again = Observation(step=5, rho=2.0, gamma=1.0, state=decision.state, version=decision.version)
    assert bound.decide_from_token(again) == bound.decide(again, bound.state_of(decision.state), decision.version)


@given(rho=a.finite, gamma=a.non_negative)
@settings(max_examples=500, deadline=None)
@example(rho=20.0, gamma=5.0)
@example(rho=15.0, gamma=7.0)
@example(rho=24.0, gamma=3.0)
def test_paper_is_the_proposals_three_formulas(rho, gamma):
    """Where nothing clamps, `paper` gives f, g, h of §2.3 to 1e-12."""
    alpha, rho_ref, kappa, gamma_ref, mu = 0.1, 20.0, 0.2, 5.0, 0.5
    params = {"alpha": alpha, "rho_ref": rho_ref, "kappa": kappa, "gamma_ref": gamma_ref, "mu": mu}
    base = Hyperparameters(lr=0.1, momentum=0.4, weight_decay=5e-4)
    spec = RunSpec(optimizer="sgd", base=base, policy=PolicyChoice(name="paper", params=params))
    decision = bind(spec).decide(Observation(step=0, rho=rho, gamma=gamma), PolicyState(), 0)
    exponent = -alpha * (rho - rho_ref)
    f = math.exp(exponent) if exponent < 700 else math.inf
    g = 1 + math.tanh(kappa * (gamma - gamma_ref))
    h = 1 + mu * rho / rho_ref
    if 0.5 <= f <= 2:
        assert math.isclose(decision.lr, base.lr * f, rel_tol=1e-12)
    if 0.5 <= g <= 2:
        assert math.isclose(decision.momentum, base.momentum * g, rel_tol=1e-12)
    if 0.5 <= h <= 2:
        assert math.isclose(decision.weight_decay, base.weight_decay * h, rel_tol=1e-12)


@pytest.mark.parametrize(("ratio", "factor"), [(0.0, 2.0), (1.0, 1.0), (2.0, 0.5)])
def test_scale_free_alpha_doubles_and_halves_exactly(ratio, factor):
    """With α = ln2/ρ_ref the factor is exactly 2, 1, ½ at ρ = 0, ρ_ref, 2ρ_ref."""
    spec = RunSpec(
        optimizer="sgd",
        base=Hyperparameters(lr=1.0),
        policy=PolicyChoice(name="paper", params={"rho_ref": 7.3, "gamma_ref": 1.0}),
    )
    decision = bind(spec).decide(Observation(step=0, rho=7.3 * ratio, gamma=1.0), PolicyState(), 0)
    assert math.isclose(decision.multipliers.lr, factor, rel_tol=1e-15)
