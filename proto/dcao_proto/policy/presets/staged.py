"""How a preset is made: the pipeline with a law for the learning rate and one for the momentum."""

from typing import TypeVar

from dcao_proto.observation import Observation
from dcao_proto.policy.draft import Draft
from dcao_proto.policy.parameters import StageParameters
from dcao_proto.policy.pipeline import LearningRateLaw, MomentumLaw, run_pipeline
from dcao_proto.policy.registry import Policy
from dcao_proto.policy.state import PolicyState
from dcao_proto.run import RunSpec

P = TypeVar("P", bound=StageParameters)


def staged(
    name: str, version: int, params: type[P], law: LearningRateLaw[P], momentum_law: MomentumLaw[P], summary: str
) -> Policy:
    """A policy that runs the stages of `pipeline.py` around the two laws."""

    def decide(spec: RunSpec, state: PolicyState, observation: Observation, given: P) -> tuple[Draft, PolicyState]:
        return run_pipeline(spec, state, observation, given, law, momentum_law)

    return Policy(name, version, params, decide, summary)
