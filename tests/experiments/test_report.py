"""The report says what the records say: measures by hand, intervals that hold the truth, and both good and bad news."""

import math

import numpy as np
import pytest

from dcao_experiments.report.document import as_html, as_markdown, report
from dcao_experiments.report.intervals import effect, overall
from dcao_experiments.report.measures import measured, score
from dcao_experiments.report.words import claims, findings
from dcao_experiments.run import Run
from dcao_experiments.suites import SUITES


def record(method, values, *, seed=10, rate=0.0, workload="mlp", **more):
    """A run of ten looks, ten steps and a CPU second apart."""
    run = Run(workload, method, seed, rate)
    looks = [[10 * (i + 1), v, float(i + 1)] for i, v in enumerate(values)]
    said = {"seconds": 1.0, "torch": "2", "python": "3", "machine": "m", "commit": "c"}
    return {
        **vars(run),
        "key": run.key(),
        "batch": 1,
        "steps": 100,
        "final": values[-1],
        "looks": looks,
        **said,
        **more,
    }


SLOW = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9]
FAST = [0.5, 0.9, 0.92, 0.92, 0.92, 0.92, 0.92, 0.92, 0.92, 0.92]


def records():
    """Ours is fast and two points better; the cosine is slow; DoG never arrives."""
    found = []
    for seed in (10, 11, 12):
        found += [record("dcao", FAST, seed=seed), record("adamw", SLOW, seed=seed, rate=0.1)]
        found += [record("adamw", [0.1] * 10, seed=seed, rate=0.2), record("dog", [0.2] * 10, seed=seed)]
    return found


def test_measures_are_those_one_counts_by_hand() -> None:
    found = measured(records())["mlp"]
    assert found["adamw"].rate == 0.1, "the best rate is the one with the best mean"
    assert found["adamw"].steps == {0.9: 0.9, 0.99: 0.9}, ".82 of the way from .1 to .9 is .82"
    assert found["dcao"].steps[0.99] == 0.2
    assert found["dcao"].seconds[0.99] == 2.0
    assert math.isinf(found["dog"].steps[0.9])


def test_a_goal_that_is_left_again_is_not_reached() -> None:
    there_and_back = [0.1, 0.95, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.95, 0.95]
    found = measured([record("dcao", there_and_back), record("adamw", SLOW, rate=0.1)])["mlp"]
    assert found["dcao"].steps[0.9] == 0.9


def test_the_score_is_the_area_under_the_profile() -> None:
    """Alone the fastest is 1; 4.5 times slower and never there are 0."""
    assert score(measured(records())) == {"dcao": 1.0, "adamw": 0.0, "dog": 0.0}
    half = [0.1, 0.1, 0.9, *FAST[3:]]  # 30 steps against 20: 1.5 times
    assert score(measured([*records(), record("momo", half)]))["momo"] == pytest.approx(2.5 / 3)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    draw = np.random.default_rng(1)
    held = [e.low <= 1.0 <= e.high for e in (effect(list(draw.normal(1.0, 2.0, 25))) for _ in range(60))]
    assert sum(held) >= 50
    assert not effect([1.0, 2.0]).clear, "two pairs are never clear"
    with pytest.raises(ValueError, match="at least one pair"):
        effect([])


def test_good_and_bad_news_have_the_same_words() -> None:
    found = measured(records())
    good = overall(found, "dcao", "adamw")
    bad = overall(found, "dog", "adamw")
    assert good.mean == pytest.approx(2.0)
    assert bad.mean == pytest.approx(-70.0)
    spread = [record("dcao", [*FAST[:-1], v], seed=s) for s, v in ((10, 0.8), (11, 0.81), (12, 0.83))]
    cosine = [record("adamw", SLOW, seed=s, rate=0.1) for s in (10, 11, 12)]
    said = list(findings(measured([*spread, *cosine])))
    assert said[0].startswith("`dcao` is worse than `adamw`: -8.67")
    holds = {claim: true for claim, _, true in claims(measured([*spread, *cosine]))}
    assert holds["+0.5–1.0 % accuracy"] == "no"
    assert holds["overhead under 7 %"] == "yes"
    assert {c: t for c, _, t in claims(found)}["10–20 % fewer epochs"] == "yes"


def test_what_a_record_says_cannot_become_markup() -> None:
    poisoned = [*records(), {**record("dcao", FAST, seed=13), "error": "<script>alert(1)</script> | x"}]
    page = as_html(report(SUITES["smoke"], poisoned))
    assert "<script>" not in page
    assert "\\| x" in as_markdown(report(SUITES["smoke"], poisoned), {})
