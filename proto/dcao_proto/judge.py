"""Is a decision one that this run allows? Asked of every answer before it touches an optimizer.

A controller may be wrong, another one's, or somebody else. Each check is a function that returns what is wrong or
None; `CHECKS` lists them, and a new field of `Decision` gets its check there.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from dcao_proto.decision import MAX_CAUSES, MAX_NUMBERS, Decision
from dcao_proto.hyperparameters import Hyperparameters
from dcao_proto.observation import Observation
from dcao_proto.reach import beyond, reach_of
from dcao_proto.run import RunSpec

TOLERANCE = 1e-9  # relative; base × multiplier is one rounding, a capped momentum three
MAX_PROBE_INTERVALS = 100  # a next probe further than this many of the run's probe intervals is no controller's advice
MAX_REASONS = 64
MAX_POLICY_VERSION_DIGITS = 9
MAX_LR = 1e6  # of `Hyperparameters.lr`


class Question(NamedTuple):
    """What was asked, of which run."""

    spec: RunSpec
    observation: Observation
    law: Decision | None = None  # what the law gives here

    @property
    def base(self) -> Hyperparameters:
        """What the values are multiples of."""
        return self.observation.base or self.spec.base

    @property
    def alone(self) -> bool:
        """Whether the observation is decided by itself, not together with those of other workers."""
        return self.spec.workers == 1


Check = Callable[[Question, Decision], str | None]


def judge(spec: RunSpec, observation: Observation, decision: Decision, law: Decision | None = None) -> str | None:
    """What is wrong with an answer to an observation, or None if the run allows it.

    The state token is not looked at: it is opaque here, and `BoundPolicy.state_of` reads it.

    Args:
        spec: the run's.
        observation: what was asked, with the attempt under which it was asked.
        decision: the answer.
        law: what the run's law gives here for that observation; where the bounds leave the rate open, an answer must
            be within reach of it (`reach.py`).

    Returns:
        A sentence: what was expected and what was got. Its beginning, up to the colon, names the kind of fault.

    Example:
        >>> from dcao_proto import Hyperparameters, RunSpec
        >>> from dcao_proto.policy import PolicyState, bind
        >>> spec = RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1))
        >>> seen = Observation(step=0, rho=3.0, gamma=1.0)
        >>> decision = bind(spec).decide(seen, PolicyState(), 0)
        >>> judge(spec, seen, decision) is None
        True
        >>> judge(spec, seen, decision.model_copy(update={"lr": 1000.0}))
        'lr: expected base × multiplier = 0.1, got 1000.0'
    """
    question = Question(spec, observation, law)
    return next((fault for check in CHECKS if (fault := check(question, decision)) is not None), None)


def _place(question: Question, decision: Decision) -> str | None:
    asked, got = question.observation, decision
    if got.step != asked.step:
        return f"step: expected an answer about step {asked.step}, got one about {got.step}"
    if got.attempt != asked.attempt:
        return f"attempt: expected an answer to attempt {asked.attempt}, got one to {got.attempt}"
    return None


def _policy(question: Question, decision: Decision) -> str | None:
    name = question.spec.policy.name
    if re.fullmatch(rf"{re.escape(name)}@[0-9]{{1,{MAX_POLICY_VERSION_DIGITS}}}", decision.policy) is None:
        return f"policy: expected a decision of {name}, got {decision.policy[:80]!r}"
    return None


def _finite(question: Question, decision: Decision) -> str | None:
    factors = decision.multipliers
    values = (
        decision.lr, decision.momentum, decision.weight_decay, factors.lr, factors.momentum, factors.weight_decay,
        decision.edge_ratio or 0.0, decision.ceiling or 0.0,
    )  # fmt: skip
    numbers = (number for cause in decision.causes or () for number in cause.numbers.values())
    return None if all(map(math.isfinite, (*values, *numbers))) else "not finite: expected finite numbers"


def _multipliers(question: Question, decision: Decision) -> str | None:
    """Within the run's bounds. What groups are multiplied by besides counts for the learning rate."""
    bounds, factors = question.spec.bounds, decision.multipliers
    extra = [group.multiplier for group in decision.groups or ()]
    for name, factor, (low, high) in (
        ("lr", factors.lr, bounds.lr),
        *(("lr of a group", factors.lr * more, bounds.lr) for more in extra),
        ("momentum", factors.momentum, bounds.momentum),
        ("weight_decay", factors.weight_decay, bounds.weight_decay),
    ):
        if not low * (1 - TOLERANCE) <= factor <= high * (1 + TOLERANCE):
            return f"multiplier on {name}: expected it within [{low}, {high}], got {factor}"
    return None


def _ceiling(question: Question, decision: Decision) -> str | None:
    """A ceiling only lowers, and never below what the bounds let the factor do; a run that is watched has none."""
    least = question.base.lr * question.spec.bounds.lr[0]
    if decision.ceiling is None:
        return None
    if question.spec.trust == "watch":
        return "ceiling: expected none, for trust watch changes nothing, got one"
    if not least * (1 - TOLERANCE) <= decision.ceiling <= MAX_LR:
        return f"ceiling: expected it within [{least}, {MAX_LR:g}], got {decision.ceiling}"
    return None


def _values(question: Question, decision: Decision) -> str | None:
    """base × multiplier, at most the ceiling.

    Workers that decide together get values on the base of one of them, so theirs need only lie within their bounds.
    """
    base, factors, bounds = question.base, decision.multipliers, question.spec.bounds
    ceiling = math.inf if decision.ceiling is None else decision.ceiling
    for name, value, was, factor, (low, high), most in (
        ("lr", decision.lr, base.lr, factors.lr, bounds.lr, ceiling),
        ("momentum", decision.momentum, base.momentum, factors.momentum, bounds.momentum, math.inf),
        ("weight_decay", decision.weight_decay, base.weight_decay, factors.weight_decay, bounds.weight_decay, math.inf),
    ):
        expected = min(was * factor, most)
        if math.isclose(value, expected, rel_tol=TOLERANCE, abs_tol=1e-300):
            continue
        if question.alone:
            return f"{name}: expected base × multiplier = {expected}, got {value}"
        if not was * low * (1 - TOLERANCE) <= value <= was * high * (1 + TOLERANCE):
            return f"{name}: expected it within [{low}, {high}] × {was}, got {value}"
    return None


def _momentum(question: Question, decision: Decision) -> str | None:
    """At most the cap; a base momentum above it is the user's choice."""
    most = max(question.spec.bounds.max_momentum, question.base.momentum)
    if decision.momentum > most * (1 + TOLERANCE):
        return f"momentum: expected at most {most}, got {decision.momentum}"
    return None


def _next_probe(question: Question, decision: Decision) -> str | None:
    most = MAX_PROBE_INTERVALS * question.spec.probe_interval
    if decision.next_probe_in > most:
        return f"next_probe_in: expected at most {most} steps, got more"  # its digits may be thousands
    return None


def _words(question: Question, decision: Decision) -> str | None:
    if len(decision.reasons) > MAX_REASONS:
        return f"reasons: expected at most {MAX_REASONS}, got {len(decision.reasons)}"
    causes = decision.causes or ()
    if len(causes) > MAX_CAUSES or any(len(cause.numbers) > MAX_NUMBERS for cause in causes):
        return f"causes: expected at most {MAX_CAUSES} of at most {MAX_NUMBERS} numbers each, got more"
    if decision.regime == "pending" and (question.alone or question.spec.aggregate == "first"):
        return "regime: expected a decision, got pending, though no other worker is awaited"
    return None


def _reach(question: Question, decision: Decision) -> str | None:
    """Near what the law gives here, where the bounds alone would allow anything."""
    law, spec = question.law, question.spec
    return None if law is None else beyond(spec, law, decision, reach_of(spec))


CHECKS: tuple[Check, ...] = (
    _place, _policy, _finite, _multipliers, _ceiling, _values, _momentum, _next_probe, _words, _reach,
)  # fmt: skip
