"""DCAO's protocol: the messages on the wire, and the law on which both sides agree."""

from importlib.metadata import version
from typing import Any

from dcao_proto.decision import (
    BackfillRequest,
    BackfillResult,
    DecideRequest,
    Decision,
    HistoryPage,
    JournalEntry,
    Outline,
    Record,
)
from dcao_proto.hyperparameters import Bounds, Hyperparameters, Multipliers
from dcao_proto.listing import RunList, RunSummary
from dcao_proto.observation import Directional, GroupDirectional, Observation, Path, ProbeReport
from dcao_proto.optimizers import stability_threshold
from dcao_proto.policy_info import PolicyInfo, PolicyList
from dcao_proto.problem import ProblemDetails, ProblemError, ProblemKind
from dcao_proto.run import Attempt, AttemptRequest, PolicyChoice, ProjectList, Run, RunAbout, RunEnd, RunPage, RunSpec

__all__ = [
    "Attempt",
    "AttemptRequest",
    "BackfillRequest",
    "BackfillResult",
    "Bounds",
    "DecideRequest",
    "Decision",
    "Directional",
    "GroupDirectional",
    "HistoryPage",
    "Hyperparameters",
    "JournalEntry",
    "Multipliers",
    "Observation",
    "Outline",
    "Path",
    "PolicyChoice",
    "PolicyInfo",
    "PolicyList",
    "ProbeReport",
    "ProblemDetails",
    "ProblemError",
    "ProblemKind",
    "ProjectList",
    "Record",
    "Run",
    "RunAbout",
    "RunEnd",
    "RunList",
    "RunPage",
    "RunSpec",
    "RunSummary",
    "stability_threshold",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("dcao")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
