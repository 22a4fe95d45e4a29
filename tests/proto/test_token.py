"""The state token: opaque, validated, and worth nothing outside its run."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcao_proto import Hyperparameters, Observation, PolicyChoice, RunSpec
from dcao_proto.policy import InvalidTokenError, PolicyState, UnknownPolicyError, bind, get_policy, policies
from dcao_proto.policy.registry import bind_token

SPEC = RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1))
TOKEN = bind(SPEC).decide(Observation(step=0, rho=3.0, gamma=1.0), PolicyState(), 0).state


def test_a_token_brings_its_run_along():
    """A replica that has never seen the run decides from the token alone."""
    bound = bind_token(TOKEN)
    assert bound.spec == SPEC
    assert bound.state_of(TOKEN).step == 0


def test_specs_that_differ_in_the_order_of_their_labels_are_one_spec():
    """The token does not depend on the order in which a client wrote its JSON."""
    one, two = (SPEC.model_copy(update={"labels": labels}) for labels in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}))
    assert bind(one).spec_segment == bind(two).spec_segment


@given(at=st.integers(0, len(TOKEN) - 1), letter=st.characters(min_codepoint=33, max_codepoint=126))
@settings(max_examples=300, deadline=None)
def test_a_damaged_token_is_refused(at, letter):
    """Any one changed character is noticed."""
    damaged = TOKEN[:at] + letter + TOKEN[at + 1 :]
    if damaged != TOKEN:
        with pytest.raises(InvalidTokenError):
            bind(SPEC).state_of(damaged)


@pytest.mark.parametrize("token", ["", "x", "dcao1...", "dcao0.a.b.c", "dcao1.é.b.00000000", TOKEN[:-1], TOKEN * 2])
def test_what_is_no_token_is_refused(token):
    """The message says what was expected and what to do."""
    with pytest.raises(InvalidTokenError, match="state token"):
        bind(SPEC).state_of(token)


def test_a_token_of_another_run_is_refused():
    """States do not wander between specifications."""
    other = bind(SPEC.model_copy(update={"probe_interval": 7}))
    with pytest.raises(InvalidTokenError, match="another specification"):
        other.state_of(TOKEN)


def test_an_unknown_policy_names_those_there_are():
    """The error lists the installed policies."""
    with pytest.raises(UnknownPolicyError, match="adler, cdat, constant, default, edge, hi-dlr, linear, paper, power"):
        bind(SPEC.model_copy(update={"policy": PolicyChoice(name="magic")}))


@pytest.mark.parametrize("params", [{"alpha": -1.0}, {"alpha": "x"}, {"beta": 1.0}])
def test_wrong_parameters_are_refused_by_name(params):
    """The error names the parameter."""
    spec = SPEC.model_copy(update={"policy": PolicyChoice(name="paper", params=params)})
    with pytest.raises(UnknownPolicyError, match=next(iter(params))):
        bind(spec)


def test_every_policy_describes_all_its_parameters():
    """The JSON Schema that GET /v1/policies serves has a description for each parameter."""
    for policy in policies():
        for name, parameter in policy.params.model_json_schema().get("properties", {}).items():
            assert "description" in parameter, f"{policy.name}.{name}"
    assert get_policy("default").label == "default@3"
