"""How several observations become one."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dcao_proto import Directional, GroupDirectional, Observation
from dcao_server.decisions.aggregate import METHODS, aggregate, mean, median, trimmed_mean

FINITE = st.floats(allow_nan=False, allow_infinity=False)
PAIRS = st.lists(
    st.tuples(FINITE, st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)),
    min_size=1,
    max_size=12,
)


@given(PAIRS)
@example([(5e-324, 1.0), (5e-324, 1.0)])
@example([(5e-324, 1.0)] * 4)
def test_an_aggregate_lies_within_its_values_however_large_or_heavy(pairs: list[tuple[float, float]]) -> None:
    values = [value for value, _ in pairs]
    for method in METHODS.values():
        assert min(values) <= method(pairs) <= max(values)


@given(st.lists(FINITE, min_size=1, max_size=12), st.randoms())
def test_the_order_of_equal_weights_does_not_matter(values: list[float], random: object) -> None:
    shuffled = sorted(values, key=lambda _: random.random())  # type: ignore[attr-defined]
    for method in (mean, median, trimmed_mean):
        one, other = method([(v, 1.0) for v in values]), method([(v, 1.0) for v in shuffled])
        assert one == other or math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-300)


def test_weights_count() -> None:
    assert mean([(1.0, 1.0), (4.0, 2.0)]) == pytest.approx(3.0)
    assert median([(1.0, 1.0), (2.0, 1.0), (9.0, 5.0)]) == 9.0
    assert median([(1.0, 1.0), (3.0, 1.0)]) == 2.0
    assert trimmed_mean([(0.0, 1.0), (1.0, 1.0), (3.0, 1.0), (1e9, 1.0)]) == pytest.approx(2.0)


def test_workers_that_measured_speak_for_all() -> None:
    ok = Observation(step=5, rho=2.0, gamma=1.0, loss=0.5, worker="b", weight=3.0)
    held = Observation(step=5, status="unavailable", loss=9.0, worker="a")
    joint = aggregate([held, ok], "mean")
    assert (joint.status, joint.rho, joint.loss, joint.worker, joint.weight) == ("ok", 2.0, 0.5, None, 4.0)


def test_one_divergence_is_everyones() -> None:
    ok = Observation(step=5, rho=2.0, gamma=1.0, worker="a")
    diverged = Observation(step=5, status="diverged", worker="b")
    joint = aggregate([ok, diverged], "median")
    assert (joint.status, joint.rho, joint.gamma) == ("diverged", None, None)
    assert Observation.model_validate(joint.wire()) == joint


def test_directions_and_groups_are_aggregated_by_name() -> None:
    def observe(worker: str, slope: float, *groups: tuple[str, float]) -> Observation:
        return Observation(
            step=5,
            rho=1.0,
            gamma=1.0,
            worker=worker,
            directional=Directional(slope=slope, curvature=1.0),
            groups=tuple(GroupDirectional(name=name, slope=value, curvature=0.0) for name, value in groups),
        )

    joint = aggregate([observe("a", 1.0, ("head", 1.0), ("body", 5.0)), observe("b", 3.0, ("head", 2.0))], "max")
    assert joint.directional == Directional(slope=3.0, curvature=1.0)
    assert joint.groups is not None
    assert [(g.name, g.slope) for g in joint.groups] == [("head", 2.0), ("body", 5.0)]
