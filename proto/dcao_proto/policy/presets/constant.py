"""`constant`: the base values, whatever the curvature. The plain twin of every other policy."""

from dcao_proto.hyperparameters import Multipliers
from dcao_proto.message import Message
from dcao_proto.observation import Observation
from dcao_proto.policy.draft import Draft
from dcao_proto.policy.registry import Policy
from dcao_proto.policy.smoothing import remember
from dcao_proto.policy.state import PolicyState
from dcao_proto.run import RunSpec


class ConstantParameters(Message):
    """None."""


def _decide(
    spec: RunSpec, state: PolicyState, observation: Observation, params: ConstantParameters
) -> tuple[Draft, PolicyState]:
    draft = Draft(Multipliers())
    draft.because("base")
    if observation.status == "diverged":
        draft.regime, draft.action = "diverged", "rollback"
    elif observation.status != "ok":
        draft.regime = "held"
    return draft, state.model_copy(update=remember(state, observation))


CONSTANT = Policy("constant", 1, ConstantParameters, _decide, "Leaves every value at its base.")
