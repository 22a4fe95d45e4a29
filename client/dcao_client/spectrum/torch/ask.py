"""The operator of a problem, and its answer to a question."""

from __future__ import annotations

from collections.abc import Callable

from dcao_client.spectrum.measure import Answer, Question
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.torch.choose import ACCEPT, Choice, UnavailableError, build
from dcao_client.spectrum.torch.distributed import Ranks
from dcao_client.spectrum.torch.kinks import KinksMovedError
from dcao_client.spectrum.torch.problem import Problem
from dcao_client.spectrum.torch.sharded import ShardedDifference, is_sharded

Ask = Callable[[Curvature, Question], Answer]


def operator_for(problem: Problem, settings: ProbeSettings, choice: Choice) -> Curvature:
    """The operator that the settings and what was found before ask for.

    Raises:
        UnavailableError: the model is sharded and its ranks are not known, or no kind works.
    """
    if is_sharded(problem.parameters):
        if not isinstance(problem.collective, Ranks):
            raise UnavailableError(
                "a sharded model needs Probe(collective=Ranks(group, timeout)) to sum over its ranks"
            )
        return ShardedDifference(problem, ranks=problem.collective.size, step=choice.step)
    return build(problem, settings, choice)


def answered(problem: Problem, question: Question, ask: Ask, choice: Choice) -> Answer | None:
    """The answer of the chosen operator; None when it is differences that should be replaced by exact products."""
    operator = operator_for(problem, question.settings, choice)
    replaceable = (
        question.settings.matvec == "auto"
        and operator.kind == "finite_difference"
        and "double_backward" not in choice.reasons
        and not is_sharded(problem.parameters)
    )
    try:
        answer = asked(operator, question, ask)
    except KinksMovedError:
        if not replaceable:
            raise
        return None
    return None if replaceable and answer.error > ACCEPT else answer


def asked(operator: Curvature, question: Question, ask: Ask) -> Answer:
    """The answer, and the operator closed whatever happens."""
    try:
        return ask(operator, question)
    finally:
        operator.close()
