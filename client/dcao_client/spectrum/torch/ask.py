"""The operator of a problem, and its answer to a question."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dcao_client.spectrum.measure import Answer, Question
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.torch.along import Along, directional
from dcao_client.spectrum.torch.choose import ACCEPT, Choice, UnavailableError, build
from dcao_client.spectrum.torch.distributed import Ranks, the_firsts
from dcao_client.spectrum.torch.kinks import KinksMovedError
from dcao_client.spectrum.torch.layout import Layout
from dcao_client.spectrum.torch.precondition import scaling
from dcao_client.spectrum.torch.problem import Collective, Problem
from dcao_client.spectrum.torch.sharded import ShardedDifference, is_sharded, local

Ask = Callable[[Curvature, Question], Answer]


def question(
    settings: ProbeSettings,
    real: Sequence[nn.Parameter],
    preconditioner: torch.optim.Optimizer | None,
    warm: Sequence[Tensor],
    seed: int,
    collective: Collective,
    along: Along | None,
) -> Question:
    """What is asked; ``real`` are the model's own parameters, as the optimizer knows them."""
    layout = Layout([local(p) for p in real])
    return Question(
        settings,
        None if preconditioner is None else lambda o: scaling(preconditioner, real, o.gradient, layout),
        warm,
        seed,
        None if is_sharded(real) else functools.partial(the_firsts, collective=collective),
        None if along is None else functools.partial(directional, along=along, real=real),
    )


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
