"""The golden vectors are what the policies decide."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dcao_proto.conformance import vectors
from dcao_proto.policy.presets import BUILT_IN
from dcao_proto.policy.reasons import REASONS

VECTORS = Path(__file__).parents[2] / "proto" / "vectors"


def assert_same(golden: Any, made: Any, where: str = "") -> None:
    """Equal, floats to a relative 1e-12: the C library's exp and log differ in the last bit between systems."""
    if isinstance(golden, float) and isinstance(made, float):
        assert math.isclose(golden, made, rel_tol=1e-12, abs_tol=1e-300), where
    elif isinstance(golden, dict):
        assert golden.keys() == made.keys(), where
        for key in golden:
            assert_same(golden[key], made[key], f"{where}/{key}")
    elif isinstance(golden, list):
        assert len(golden) == len(made), where
        for i, (a, b) in enumerate(zip(golden, made, strict=True)):
            assert_same(a, b, f"{where}/{i}")
    else:
        assert golden == made, where


@pytest.mark.parametrize("policy", [policy.name for policy in BUILT_IN])
def test_vectors_are_current(policy):
    """`python -m dcao_proto.conformance proto/vectors` would change nothing."""
    golden = json.loads((VECTORS / f"{policy}.json").read_text(encoding="utf-8"))
    assert_same(golden, json.loads(json.dumps(vectors(policy))))


def test_there_is_a_file_for_every_policy_and_no_other():
    """A policy that goes takes its vectors along."""
    assert {path.stem for path in VECTORS.glob("*.json")} == {policy.name for policy in BUILT_IN}


def test_the_vectors_reach_every_stage():
    """Nearly every reason code occurs in some vector; the rest need inputs that only a test makes."""
    text = "".join(path.read_text(encoding="utf-8") for path in VECTORS.glob("*.json"))
    missing = {reason for reason in REASONS if f'"{reason}"' not in text}
    assert missing <= {"held:breakdown", "no-reference", "effective-lr"}
