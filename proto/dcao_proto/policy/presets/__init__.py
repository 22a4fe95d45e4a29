"""The built-in policies, one a file."""

from dcao_proto.policy.presets.constant import CONSTANT
from dcao_proto.policy.presets.default import DEFAULT
from dcao_proto.policy.presets.edge import EDGE
from dcao_proto.policy.presets.linear import LINEAR
from dcao_proto.policy.presets.paper import PAPER
from dcao_proto.policy.presets.power import POWER

BUILT_IN = (CONSTANT, DEFAULT, EDGE, LINEAR, PAPER, POWER)
