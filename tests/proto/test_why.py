"""Why a value moved: the table of words, what fills it, and what the laws say."""

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from dcao_proto import Decision, Hyperparameters, Multipliers, Observation, PolicyChoice, RunSpec, words
from dcao_proto.decision import MAX_CAUSES, MAX_NUMBERS, Cause
from dcao_proto.judge import judge
from dcao_proto.observation import Path as Way
from dcao_proto.policy import PolicyState, bind
from dcao_proto.policy.draft import Draft
from dcao_proto.policy.reasons import ACTIONS, CAUSES, NUMBERS, REASONS, REGIMES, SENTENCES, VALUES
from dcao_proto.policy.registry import MAX_SENTENCE, MAX_SENTENCES, Policy, sentences
from dcao_proto.policy.why import spell, why
from dcao_proto.run import Trust

ROOT = Path(__file__).parents[2]
BASE = Hyperparameters(lr=0.1, momentum=0.9, weight_decay=5e-4)


def decided(spec: RunSpec, *seen: Observation) -> list[Decision]:
    law, state, decisions = bind(spec), PolicyState(), []
    for version, observation in enumerate(seen):
        decision, state = law.advance(observation, state, version)
        decisions.append(decision)
    return decisions


def of(name: str, **params: object) -> RunSpec:
    return RunSpec(optimizer="sgd", base=BASE, policy=PolicyChoice(name=name, params=params))


@pytest.mark.parametrize("name", words.FILES)
def test_what_is_made_from_the_table_is_current(name):
    """`python -m dcao_proto.words .` would change nothing: one table, on every side."""
    assert (ROOT / name).read_text(encoding="utf-8") == words.FILES[name]()


def test_every_placeholder_is_explained_and_used():
    """A number on the page has a meaning and a unit in the docs, and none is there that nothing says."""
    used = {name for sentence in SENTENCES.values() for name in re.findall(r"\{(\w+)\}", sentence)}
    assert used <= VALUES.keys() | NUMBERS.keys()
    assert NUMBERS.keys() <= used


def test_every_regime_and_every_advice_is_in_the_glossary():
    assert set(Decision.model_fields["regime"].annotation.__args__) == REGIMES.keys()
    assert set(Decision.model_fields["action"].annotation.__args__) == ACTIONS.keys()


def test_a_cause_is_a_code_of_the_table_with_the_numbers_of_its_sentence():
    """Over all vectors: no cause without a sentence, no number that the sentence does not say, no `?` in it."""
    codes: set[str] = set()
    for path in (ROOT / "proto" / "vectors").glob("*.json"):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            before = None
            for step in case["steps"]:
                decision = Decision.model_validate(step["decision"])
                for cause in decision.causes or ():
                    assert cause.code in SENTENCES
                    assert cause.numbers.keys() <= set(re.findall(r"\{(\w+)\}", SENTENCES[cause.code]))
                    codes.add(cause.code)
                said = why(decision, before)
                assert said
                assert not [sentence for sentence in said if re.search(r"[\[\]{}?]", sentence)]
                before = decision
    assert codes >= CAUSES.keys()


def test_a_sentence_reads_without_any_number_that_may_be_absent():
    """What was decided before there were causes has only codes; they make whole sentences."""
    decision = decided(of("constant"), Observation(step=0, rho=1.0, gamma=0.0))[0]
    old = decision.model_copy(update={"causes": None, "reasons": tuple(REASONS)})
    assert len(why(old)) == len(REASONS)
    assert not [sentence for sentence in why(old) if re.search(r"[\[\]{}?]", sentence)]


def test_the_sentence_of_a_small_batch_beyond_its_edge():
    """What drove it, by how much, and what became of the rate."""
    seen = [Observation(step=s, rho=2.0, gamma=1.0, batch_sharpness=b) for s, b in ((0, 1.9), (10, 3.8))]
    first, second = decided(of("edge", reference="nearest_edge"), *seen)
    assert why(first)[0] == "Batch sharpness is 0.95 × its edge: learning rate × 1.03, 0.103."
    assert why(second, first)[0] == "Batch sharpness is 1.9 × its edge: learning rate × 0.725, 0.103 → 0.0725."


def test_from_what_is_said_only_of_the_decision_just_before():
    """Between two that are not neighbours the value may have moved otherwise."""
    seen = [Observation(step=s, rho=r, gamma=1.0) for s, r in ((0, 38.0), (10, 20.0), (20, 60.0))]
    first, _, third = decided(of("edge"), *seen)
    assert "→" not in why(third, first)[0]
    assert why(third, first) == why(third)


def test_what_the_pipeline_wanted_is_said_where_it_was_not_followed():
    """An obstacle has its number: the factor without it."""
    seen = [Observation(step=s, rho=r, gamma=1.0) for s, r in ((0, 38.0), (10, 60.0))]
    slowed = decided(of("edge", slew=1.1), *seen)[1]
    cause = next(c for c in slowed.causes or () if c.code == "slew:lr")
    assert cause.numbers["wanted"] == pytest.approx((60 / 38) ** -0.5)
    assert "The learning rate moves in limited steps towards × 0.796." in why(slowed)


@pytest.mark.parametrize(
    ("trust", "most", "expected"),
    [
        ("auto", None, r"The way come so far gives 0\.02, times 0\.22: learning rate 0\.0044\."),
        (
            "auto",
            "sharp",
            r": 1\.5 × the edge of stability at a curvature of 5000, where 0\.0044 was asked for",
        ),
        (
            "guard",
            0.001,
            r"ceiling: your own rate, 0\.001, where 0\.0044 was asked for: learning rate 0\.001\.",
        ),
    ],
)
def test_the_path_says_which_of_its_bounds_holds(trust: Trust, most, expected):
    """Path, edge or the user's own rate: the lowest of three has set the value, and is named."""
    spec = RunSpec(optimizer="sgd", base=BASE, scale="path", trust=trust)
    way = Way(distance=0.1, gradients=5.0, steps=40, most=most if isinstance(most, float) else None)
    seen = Observation(
        step=40, rho=5000.0 if most == "sharp" else 5.0, gamma=0.0, path=way, base=BASE.model_copy(update={"lr": 0.02})
    )
    (decision,) = decided(spec, seen)
    assert re.search(expected, why(decision)[0]), why(decision)


def test_a_base_of_0_is_asked_about_again_at_once():
    """The first step of a warm-up has no edge. It must not be the only decision of the next hundred steps."""
    zero = BASE.model_copy(update={"lr": 0.0})
    seen = [
        Observation(step=0, rho=38.0, gamma=1.0, base=zero),
        Observation(step=1, rho=38.0, gamma=1.0, base=BASE.model_copy(update={"lr": 0.001})),
    ]
    first, second = decided(of("edge"), *seen)
    assert (first.reasons, first.next_probe_in) == (("no-reference",), 1)
    assert second.regime != "held"
    assert (second.causes or ())[0].code == "edge:lr"
    late = Observation(step=5000, rho=38.0, gamma=1.0, base=zero)
    assert decided(of("edge"), late)[0].next_probe_in == 100


def test_numbers_that_are_none_are_left_out():
    """A law at its end gives infinities; they are no numbers for a person, nor for the wire."""
    draft = Draft(Multipliers())
    draft.because("clamped:lr", wanted=math.inf, bound=2.0)
    assert draft.causes == [Cause(code="clamped:lr", numbers={"bound": 2.0})]


@pytest.mark.parametrize(
    "numbers", [{f"n{i}": 1.0 for i in range(MAX_NUMBERS + 1)}, {"n" * 33: 1.0}, {"Wanted": 1.0}, {"": 1.0}]
)
def test_causes_are_bounded_on_the_wire(numbers):
    with pytest.raises(ValidationError):
        Cause(code="clamped:lr", numbers=numbers)


def test_more_causes_than_the_wire_takes_are_cut_off_by_us_and_refused_of_others():
    """A plug-in that never ends does not make decisions that no client reads."""
    seen = Observation(step=0, rho=38.0, gamma=1.0)
    law = bind(of("constant"))
    many = (Cause(code="base", numbers={}),) * (MAX_CAUSES + 1)
    decision = law.decide(seen, PolicyState(), 0).model_copy(update={"causes": many})
    assert judge(law.spec, seen, decision) == "causes: expected at most 16 of at most 8 numbers each, got more"
    with pytest.raises(ValidationError):
        Decision.model_validate(decision.wire())


def _law(**table: str) -> Policy:
    constant = bind(of("constant")).policy
    return Policy("mine", 1, constant.params, constant.decide, "Mine.", sentences=table)


@pytest.mark.parametrize(
    "table",
    [
        {"slew:lr": "Mine now."},
        {"Not a code": "x"},
        {"a" * 65: "x"},
        {"mine:lr": "x" * (MAX_SENTENCE + 1)},
        {f"mine-{i}": "x" for i in range(MAX_SENTENCES + 1)},
    ],
)
def test_a_plug_in_cannot_change_the_table_nor_flood_it(table):
    with pytest.raises(ValueError, match="expected"):
        _law(**table)


def test_a_plug_in_says_why_in_its_own_words(monkeypatch):
    """With its numbers; where its sentence is not known the code stands for itself."""
    mine = _law(**{"noise:lr": "Noise is {ratio} × its aim[, {count} times]: learning rate {lr}."})
    monkeypatch.setattr("dcao_proto.policy.registry.policies", lambda: [mine])
    decision = decided(of("constant"), Observation(step=0, rho=1.0, gamma=0.0))[0].model_copy(
        update={"causes": (Cause(code="noise:lr", numbers={"ratio": 1.9}),)}
    )
    assert why(decision, None, sentences()) == ("Noise is 1.9 × its aim: learning rate 0.1.",)
    assert why(decision) == ("noise:lr",)


@given(st.floats(-1e308, 1e308))
@example(1.125)
@example(999.5)
@example(99999.5)
@example(5e-324)
def test_a_number_is_spelt_within_half_a_unit_of_its_third_digit(value):
    """Whatever it is: short, and right to a half of a percent."""
    text = spell(value)
    assert len(text) <= 11
    assert float(text.replace("\u2212", "-")) == pytest.approx(value, rel=0.00501)
