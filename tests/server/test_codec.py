"""Records as bytes: everything comes back, bit for bit, in a third of the space."""

import msgpack
import pytest
from hypothesis import given, settings

from dcao_proto import Decision, Observation, Record, RunSpec
from dcao_proto.decision import Cause
from dcao_proto.policy import bind
from dcao_server.history.codec import UNREADABLE, decode, encode
from dcao_server.store.contract import StoredRecord
from tests.proto.strategies import observations

POLICY = bind(RunSpec.model_validate({"optimizer": "sgd", "base": {"lr": 0.1, "momentum": 0.9}}))
FULL = Observation.model_validate(
    {
        "step": 300,
        "rho": 12.345678901234567,
        "gamma": 4.123456789012345,
        "lambda_min": -0.8123456789012345,
        "batch_sharpness": 9.712345678901234,
        "grad_norm": 1.2123456789012345,
        "loss": 0.41234567890123456,
        "rho_bound": 0.012345678901234567,
        "gamma_bound": 0.02345678901234567,
        "base": {"lr": 0.08123456789012345, "momentum": 0.9, "weight_decay": 5e-4},
        "applied": {"lr": 0.09123456789012345, "momentum": 0.9, "weight_decay": 5e-4},
        "probe": {"matvecs": 8, "seconds": 0.4123456789, "overhead": 0.0312345678, "examples": 64, "fingerprint": "f"},
        "directional": {"slope": 0.9, "curvature": 3.1},
        "groups": [{"name": "head", "slope": 0.2, "curvature": 0.7}],
        "worker": "rank0",
        "weight": 64.0,
    }
)


def expected(observation: Observation, decision: Decision, **how: object) -> Record:
    return Record(
        attempt=observation.attempt,
        step=observation.step,
        observation=observation.model_copy(update={"state": None, "version": None}),
        decision=decision.model_copy(update={"state": None, "replayed": False, "persisted": True}),
        recorded_at=1.8e9 + 1 / 3,
        **how,
    )


@settings(max_examples=200, deadline=None)
@given(observations)
def test_a_record_comes_back_bit_for_bit(observation: Observation) -> None:
    decision = POLICY.decide_from_token(observation.model_copy(update={"state": None, "version": None}))
    payload = encode(observation, decision, 1.8e9 + 1 / 3)
    found = decode(StoredRecord(observation.attempt, observation.step, payload))
    assert found == expected(observation, decision)
    assert found.wire_json() == expected(observation, decision).wire_json()


def test_how_it_came_is_kept() -> None:
    decision = POLICY.decide_from_token(FULL)
    payload = encode(FULL, decision, 1.8e9 + 1 / 3, backfilled=True, deviates=True)
    assert decode(StoredRecord(1, 300, payload)) == expected(FULL, decision, origin="backfill", deviates=True)


def test_a_full_record_takes_a_third_of_its_json() -> None:
    decision = POLICY.decide_from_token(FULL)
    payload = encode(FULL, decision, 1.8e9 + 1 / 3)
    assert len(payload) < 400
    assert len(payload) * 3 < len(expected(FULL, decision).wire_json())


def test_why_is_kept_behind_everything_else() -> None:
    """Causes come back with the bits of their numbers; a record without them is the one that there was before, and what
    a later version puts behind them is passed over."""
    why = (Cause(code="mine:lr", numbers={"ratio": 0.1 + 0.2}), Cause(code="base"))
    decision = POLICY.decide_from_token(FULL).model_copy(update={"causes": why})
    assert decode(StoredRecord(1, 300, encode(FULL, decision, 1.8e9 + 1 / 3))).decision.causes == why
    before = decision.model_copy(update={"causes": None})
    assert decode(StoredRecord(1, 300, encode(FULL, before, 1.8e9))).decision.causes is None
    new, old = (msgpack.unpackb(encode(FULL, d, 1.8e9), use_list=False) for d in (decision, before))
    assert new[: len(old)] == old
    logged = FULL.model_copy(update={"metrics": {"val/accuracy": 0.1 + 0.2}})
    newest = msgpack.unpackb(encode(logged, decision, 1.8e9), use_list=False)
    assert newest[: len(new)] == new
    assert decode(StoredRecord(1, 300, msgpack.packb(newest))).observation.metrics == logged.metrics
    later = msgpack.packb((*newest, {"what": "comes"}))
    assert decode(StoredRecord(1, 300, later)).decision == decode(StoredRecord(1, 300, msgpack.packb(new))).decision


@pytest.mark.parametrize(
    "metrics", [{"a name": 1.0}, {"n": "x"}, {"n": float("nan")}, {f"n{i}": 1.0 for i in range(17)}]
)
def test_what_was_logged_is_looked_at_in_the_store_like_on_the_wire(metrics: dict[str, object]) -> None:
    good = msgpack.unpackb(encode(FULL, POLICY.decide_from_token(FULL), 1.8e9), use_list=False)
    with pytest.raises(UNREADABLE):
        decode(StoredRecord(1, 300, msgpack.packb((*(*good, None)[:14], None, metrics))))


@pytest.mark.parametrize(
    "causes",
    [[("Not a code", {})], [("base", {"n": "x"})], [("base", {f"n{i}": 1.0 for i in range(9)})], [("base", {})] * 17],
)
def test_causes_in_the_store_are_looked_at_like_those_on_the_wire(causes: list[object]) -> None:
    """Somebody else may have written there; one record must not end a page."""
    good = msgpack.unpackb(encode(FULL, POLICY.decide_from_token(FULL), 1.8e9), use_list=False)
    with pytest.raises(UNREADABLE):
        decode(StoredRecord(1, 300, msgpack.packb((*good[:14], causes))))
