"""Old and new side by side: unknown fields in answers and in tokens, and what reading may cost."""

import json
import time
import zlib

import pytest
from pydantic import Field, ValidationError

from dcao_proto import Decision, Hyperparameters, Observation, RunSpec
from dcao_proto.policy import InvalidTokenError, PolicyState, bind
from dcao_proto.policy import token as tokens
from dcao_proto.policy.registry import bind_token
from dcao_proto.reading import MAX_ANSWER, UnreadableAnswerError, read_answer

SPEC = RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1))
SEEN = Observation(step=0, rho=3.0, gamma=1.0)
GOOD = bind(SPEC).decide(SEEN, PolicyState(), 0)


def with_state(document: object, segment: str = bind(SPEC).spec_segment) -> str:
    """A token as a newer controller would issue it: sound, with a state of its own."""
    state = tokens.encode_segment(json.dumps(document).encode()).decode()
    return f"dcao1.{segment}.{state}.{zlib.crc32(f'{segment}.{state}'.encode()):08x}"


def test_fields_that_a_newer_controller_added_are_left_out_of_an_answer():
    """At any depth; what is known is read as ever."""
    body = GOOD.wire() | {"mood": {"is": ["good"]}, "multipliers": GOOD.multipliers.wire() | {"epsilon": 2.0}}
    assert read_answer(Decision, json.dumps(body).encode()) == GOOD


def test_a_request_stays_closed():
    """A mistyped field of a sender is found."""
    with pytest.raises(ValidationError):
        Observation.model_validate_json(b'{"step": 0, "rho": 1.0, "gamma": 0.5, "rhoo": 1.0}')


def test_what_a_newer_law_remembers_is_left_out_of_a_state():
    """The older law decides from what it knows."""
    state = bind(SPEC).state_of(with_state({"step": 7, "rho_ref": 2.5, "soul": [1, 2, 3]}))
    assert state == PolicyState(step=7, rho_ref=2.5)
    assert bind_token(with_state({"soul": 1})).spec == SPEC


@pytest.mark.parametrize("document", [[], "x", {"step": -1}, {"rho_ref": "many"}, {"window": [0.0] * 50_000}, None])
def test_a_state_that_makes_no_sense_is_refused(document):
    """And the refusal is short, however much was wrong."""
    with pytest.raises(InvalidTokenError) as refusal:
        bind(SPEC).state_of(with_state(document))
    assert len(str(refusal.value)) < 300


def test_a_field_added_to_the_specification_leaves_the_identity_of_runs_alone():
    """Old and new say the same segment for a run that does not use the field: no conflict in a rolling update."""
    old = {"optimizer": "sgd", "base": {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}, "policy": {"name": "default",
           "params": {}}, "bounds": {"lr": [0.5, 2.0], "momentum": [0.5, 2.0], "weight_decay": [0.5, 2.0],
           "max_momentum": 0.99}, "probe_interval": 100, "workers": 1, "aggregate": "first", "quorum": None,
           "quorum_seconds": 5.0, "labels": {}}  # fmt: skip
    written = json.dumps(old, sort_keys=True, separators=(",", ":")).encode()
    assert bind(SPEC).spec_segment == tokens.encode_segment(written).decode()


def test_a_later_field_that_says_something_is_part_of_the_identity():
    """A run that uses it is another run."""
    assert bind(SPEC.model_copy(update={"scale": "path"})).spec_segment != bind(SPEC).spec_segment


def test_a_field_of_a_newer_specification_is_refused():
    """It changes what the run means, so nobody who lacks it may decide."""
    document = json.dumps({**SPEC.wire(), "temperature": 1.0}).encode()
    with pytest.raises(InvalidTokenError, match="run specification"):
        bind_token(with_state({}, tokens.encode_segment(document).decode()))


class Newer(Decision):
    """Tomorrow's decision."""

    mood: str = Field(default="good", description="New.")


def test_tomorrows_client_reads_todays_answer():
    """A field that is absent has its default."""
    assert read_answer(Newer, GOOD.wire_json()).mood == "good"


HOSTILE = {
    "lists": b'{"a":[' + b"[]," * 2_000_000 + b"[]]}",
    "objects": b"[" + b"{}," * 60_000 + b"{}]",
    "reasons": b'{"reasons":[' + b"1," * 80_000 + b"1]}",
    "few reasons": b'{"reasons":[' + b"1," * 8_000 + b"1]}",
    "deep": b"[" * 8_000,
    "text": b'"' + b"x" * 300_000_000 + b'"',
    "fields": b"{" + b",".join(b'"%d":1' % i for i in range(8_000)) + b"}",
    "nothing": b"",
    "NaN": GOOD.wire_json().replace(b'"lr":0.1', b'"lr":NaN'),
    "number": GOOD.wire_json().replace(b'"version":1', b'"version":' + b"9" * 200_000),
    "surrogate": b'{"policy":"\\ud800"}',
    "bytes": bytes(range(256)) * 900,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_answer_takes_long_to_refuse(name):
    """Nothing that arrives may hold the interpreter: the time does not go into describing what was wrong."""
    started = time.perf_counter()
    with pytest.raises(UnreadableAnswerError) as refusal:
        read_answer(Decision, HOSTILE[name])
    assert time.perf_counter() - started < 0.2  # 5 ms alone; the suite shares its cores
    assert len(str(refusal.value)) < 200


def test_the_limit_is_beyond_the_longest_answer():
    """A state token may have 64 KiB."""
    assert len(GOOD.model_copy(update={"state": "x" * 65536}).wire_json()) < MAX_ANSWER
