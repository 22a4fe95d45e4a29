"""Runs as a list shows them: what each is, and where it stood at its newest decision."""

from typing import Literal

from pydantic import Field

from dcao_proto.decision import Regime
from dcao_proto.message import AttemptNumber, Count, Message, Name, Real, ShortText
from dcao_proto.run import Labels, RunStatus, Trust

RunGroup = Literal["live", "ended", "created", "active", "stale", "finished", "failed"]
RunOrder = Literal["updated", "created", "name", "status", "policy", "step", "edge", "sharpness", "lr", "loss"]


class RunSummary(Message):
    """One run of a list. The values are those of its newest decision; a run that has ended keeps its last ones."""

    project: Name
    run: Name
    status: RunStatus
    attempt: AttemptNumber
    optimizer: ShortText
    policy: ShortText = Field(description="Name of the policy that was declared.")
    trust: Trust | None = None
    labels: Labels = Field(default_factory=dict)
    title: ShortText | None = Field(default=None, description="What people call the run, if not by its name.")
    tags: tuple[Name, ...] = ()
    created_at: Real = Field(description="Seconds since the epoch, controller's clock.")
    updated_at: Real = Field(description="Seconds since the epoch of the last observation or change of status.")
    last_step: Count | None = Field(default=None, description="Step of the newest decision, in optimizer steps.")
    regime: Regime | None = Field(default=None, description="Absent before the first decision of the attempt.")
    edge_ratio: Real | None = Field(default=None, description="e = η·ρ/threshold; 1 is the edge of stability.")
    sharpness: Real | None = Field(default=None, description="ρ, in loss per squared parameter unit.")
    lr: Real | None = Field(default=None, description="η decided.")
    loss: Real | None = Field(default=None, description="Mean training loss.")


class RunList(Message):
    """Some runs of all projects that the caller may read, in the order asked for."""

    runs: tuple[RunSummary, ...]
    total: Count = Field(description="Runs that fit, on this page or not.")
    complete: bool = Field(
        description="Whether every run was looked through; false for some seconds after a controller's start, while "
        "it reads them, the newest first. Ask again."
    )
