"""Several workers of one run decide together: their observations are gathered, and become one.

A worker that is not the last gets the values in force, `pending`, and asks again with the same observation at its next
optimizer step; nobody is kept waiting. Once `quorum` workers have observed the step, or `quorum_seconds` have passed
since the first of them, whoever asks next makes the decision, and everyone after gets that one.
"""

import structlog
from pydantic import ValidationError

from dcao_proto import Decision, Observation, ProblemError, ProblemKind, RunSpec
from dcao_proto.decision import Regime
from dcao_proto.policy import BoundPolicy, PolicyState
from dcao_proto.policy.compose import compose
from dcao_proto.policy.draft import Draft
from dcao_proto.policy.token import join
from dcao_server.decisions.aggregate import pieces
from dcao_server.store.contract import Contribution
from dcao_server.turns import Turn

PENDING: Regime = "pending"
_log = structlog.get_logger(__name__)
ASK_AGAIN_IN = 1  # optimizer steps
MOST_TOGETHER, LEAST_BYTES = 32 * 1024 * 1024, 4 * 1024
"""Bytes of all workers' observations of a step, which come in one answer of the store; and those that each may have at
least. One without groups has some 500."""


def decides_together(spec: RunSpec) -> bool:
    """Whether a decision waits for several workers; with `first` the first observation decides at once."""
    return spec.workers > 1 and spec.aggregate != "first"


def gathered(observation: Observation, spec: RunSpec, digest: str) -> Contribution:
    """The worker's observation as the store gathers it.

    Raises:
        ProblemError: invalid; it does not say which worker observed.
    """
    if observation.worker is None:
        raise ProblemError(
            ProblemKind.INVALID,
            f"expected `worker` in an observation of a run whose {spec.workers} workers decide together, got none; "
            "name the worker, for example rank0",
        )
    bare = observation.model_copy(update={"state": None, "version": None}).wire_json()
    most = max(LEAST_BYTES, MOST_TOGETHER // spec.workers)
    if len(bare) > most:
        raise ProblemError(
            ProblemKind.TOO_LARGE,
            f"expected an observation of at most {most} bytes in a run of {spec.workers} workers, got {len(bare)}; "
            "leave out groups, or let fewer workers observe",
        )
    return Contribution(
        attempt=observation.attempt,
        step=observation.step,
        digest=digest,
        worker=observation.worker,
        observation=bare,
        quorum=min(spec.quorum or spec.workers, spec.workers),
        most=spec.workers,
        quorum_seconds=spec.quorum_seconds,
    )


async def merged(observations: tuple[tuple[str, bytes], ...], own: Observation, spec: RunSpec) -> Observation:
    """One observation of all workers' observations, at the step of one's own; others get their turn meanwhile."""
    turn = Turn()
    parsed = []
    for _, text in observations:
        try:
            parsed.append(Observation.model_validate_json(text))
        except ValidationError as error:
            _log.warning("a worker's observation left out", step=own.step, reason=f"{error.error_count()} faults")
        await turn.breathe()
    work = pieces(parsed or [own], spec.aggregate)
    while True:
        try:
            next(work)
        except StopIteration as done:
            joint: Observation = done.value
            return joint.model_copy(update={"attempt": own.attempt, "step": own.step})
        await turn.breathe()


def in_force(observation: Observation, policy: BoundPolicy, state: PolicyState, version: int) -> Decision:
    """The values in force while others are awaited: the factors of the last decision on the base of now."""
    settings = policy.params
    draft = Draft(
        state.factors,
        regime=PENDING,
        next_probe_in=ASK_AGAIN_IN,
        literal_momentum=getattr(settings, "momentum_form", None) == "literal",
        preserve_effective_lr=getattr(settings, "preserve_effective_lr", False),
    )
    token = join(policy.spec_segment, state)
    decision = compose(policy.spec, observation, draft, policy=policy.policy.label, state=token, version=version)
    return decision.model_copy(update={"reasons": ()})
