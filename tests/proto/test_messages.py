"""What the wire refuses, and what it keeps exactly."""

import json

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from dcao_proto import Bounds, Decision, Observation, ProblemDetails, RunSpec
from dcao_proto.observation import GroupDirectional
from dcao_proto.policy.reasons import REASONS
from dcao_proto.problem import ProblemError, ProblemKind
from tests.proto import strategies as a

SPEC = {"optimizer": "sgd", "base": {"lr": 0.1, "momentum": 0.9}}
SEEN = {"step": 3, "rho": 1.0, "gamma": 0.5}


@given(observation=a.observations)
@settings(max_examples=200, deadline=None)
def test_an_observation_round_trips_exactly(observation):
    """Every float comes back with the same bits."""
    assert Observation.model_validate_json(observation.wire_json()) == observation


@given(spec=a.specs)
@settings(max_examples=200, deadline=None)
def test_a_spec_round_trips_exactly(spec):
    """Every float comes back with the same bits."""
    assert RunSpec.model_validate_json(spec.wire_json()) == spec


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
@pytest.mark.parametrize("field", ["rho", "gamma", "loss", "lambda_min", "grad_norm"])
def test_non_finite_numbers_are_refused(field, number):
    """JSON has no NaN, and the wire has none either."""
    text = json.dumps({**SEEN, field: 0.0}).replace(f'"{field}": 0.0', f'"{field}": {number}')
    with pytest.raises(ValidationError):
        Observation.model_validate_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"rho": "1.0"},
        {"rho": True},
        {"step": 1.5},
        {"step": -1},
        {"step": 2**53},
        {"gamma": -0.1},
        {"rho": None},
        {"gamma": None},
        {"status": "diverged"},
        {"status": "fine"},
        {"state": "x"},
        {"version": 1},
        {"weight": 0.0},
        {"worker": "rank 0"},
        {"base": {"lr": -0.1}},
        {"base": {"lr": 0.1, "momentum": 1.0}},
    ],
)
def test_a_bad_observation_is_refused(change):
    """Unknown fields, wrong types, wrong ranges, and a spectrum that contradicts its status."""
    body = {key: value for key, value in {**SEEN, **change}.items() if value is not None}
    with pytest.raises(ValidationError):
        Observation.model_validate_json(json.dumps(body))


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgdd"},
        {"base": {"momentum": 0.9}},
        {"bounds": {"lr": [1.1, 2]}},
        {"bounds": {"lr": [0.5, 0.9]}},
        {"bounds": {"max_momentum": 1.0}},
        {"probe_interval": 0},
        {"labels": {"a b": "c"}},
        {"workers": 0},
    ],
)
def test_a_bad_run_is_refused(change):
    """A run that could never decide sensibly is not created."""
    with pytest.raises(ValidationError):
        RunSpec.model_validate_json(json.dumps({**SPEC, **change}))


def test_the_designs_example_bodies_are_understood():
    """The bodies in the documentation of the wire parse."""
    spec = {
        **SPEC,
        "policy": {"name": "paper", "params": {"alpha": 0.1, "rho_ref": 20, "kappa": 0.2, "gamma_ref": 5, "mu": 0.5}},
        "bounds": {"lr": [0.5, 2], "momentum": [0.5, 2], "weight_decay": [0.5, 2], "max_momentum": 0.99},
        "probe_interval": 100, "workers": 1, "aggregate": "first", "labels": {"model": "resnet18"},
    }  # fmt: skip
    RunSpec.model_validate_json(json.dumps(spec))
    observation = {
        "attempt": 1, "step": 300, "status": "ok", "rho": 12.3, "gamma": 4.1, "lambda_min": -0.8,
        "batch_sharpness": 9.7, "grad_norm": 1.2, "loss": 0.41, "rho_bound": 0.01, "gamma_bound": 0.02,
        "base": {"lr": 0.08, "momentum": 0.9, "weight_decay": 5e-4},
        "applied": {"lr": 0.09, "momentum": 0.9, "weight_decay": 5e-4},
        "probe": {"matvecs": 8, "seconds": 0.4, "overhead": 0.03, "examples": 64, "fingerprint": "f"},
        "directional": {"slope": 0.9, "curvature": 3.1},
        "groups": [{"name": "head", "slope": 0.2, "curvature": 0.7}],
        "worker": "rank0", "weight": 1.0, "state": "s", "version": 7,
    }  # fmt: skip
    assert Observation.model_validate_json(json.dumps(observation)).groups == (
        GroupDirectional(name="head", slope=0.2, curvature=0.7),
    )


def test_every_field_of_every_message_is_described():
    """Unit, range and sign of a field are in its description, or in that of its type."""
    described = {"attempt", "step", "version", "base", "bounds", "policy", "multipliers", "project", "run", "spec"}
    for message in (Observation, Decision, RunSpec):
        for name, field in message.model_fields.items():
            nested = isinstance(field.annotation, type) or name in ("probe", "directional", "groups", "worker")
            assert field.description or name in described or nested, f"{message.__name__}.{name}"


def test_bounds_hold_one_by_default():
    """The proposal's [0.5, 2]."""
    assert Bounds().lr == (0.5, 2.0)


def test_a_problem_says_what_to_do_and_never_echoes_the_input():
    """The document of an error has the kind's type and status, the detail and whether to retry."""
    error = ProblemError(ProblemKind.FENCED, "attempt 2 owns the run; this is attempt 1")
    document = error.document("request-1")
    assert (document.status, document.retryable) == (409, False)
    assert document.type.endswith("/fenced")
    assert ProblemDetails.model_validate_json(document.wire_json()) == document


def test_every_reason_is_a_code_the_wire_accepts():
    """All reason codes fit the decision's pattern and have a sentence."""
    for reason, sentence in REASONS.items():
        Decision.model_validate(
            {
                "attempt": 1, "step": 0, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "multipliers": {},
                "regime": "held", "reasons": (reason,), "next_probe_in": 1, "policy": "p@1", "version": 1,
            }
        )  # fmt: skip
        assert sentence.endswith(".")
