"""A run: what is declared when it is created, and what the controller says of it afterwards."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dcao_proto.hyperparameters import Bounds, Hyperparameters
from dcao_proto.message import NAME_PATTERN, Count, Message, Name, Real, ShortText
from dcao_proto.optimizers import OptimizerName

Aggregate = Literal["first", "mean", "median", "max", "trimmed_mean"]
RunStatus = Literal["created", "active", "stale", "finished", "failed"]
Labels = dict[Annotated[str, Field(pattern=NAME_PATTERN)], ShortText]


class PolicyChoice(Message):
    """Which law decides, and its parameters; `GET /v1/policies` has the JSON Schema of each policy's parameters."""

    name: Name = Field(default="default", description="Name of a policy, built in or installed as a plug-in.")
    params: dict[str, Any] = Field(default_factory=dict, description="Parameters that differ from their defaults.")


class RunSpec(Message):
    """Everything that a decision depends on besides the observation and the state. It never changes during a run.

    The same body put again answers the same; another body is a conflict.
    """

    optimizer: OptimizerName = Field(
        description="Decides the stability threshold and what momentum means; `other` has no threshold."
    )
    base: Hyperparameters = Field(description="What the optimizer would use without DCAO, at the start.")
    policy: PolicyChoice = Field(default_factory=PolicyChoice)
    bounds: Bounds = Field(default_factory=Bounds)
    probe_interval: int = Field(
        default=100,
        strict=True,
        ge=1,
        le=10_000_000,
        description="T_c: optimizer steps from one probe to the next.",
    )
    workers: int = Field(default=1, strict=True, ge=1, le=10_000, description="Workers that observe each step.")
    aggregate: Aggregate = Field(
        default="first", description="How the observations of several workers at one step become one."
    )
    quorum: int | None = Field(
        default=None,
        strict=True,
        ge=1,
        le=10_000,
        description="Observations that suffice for a decision; all workers if absent. At most `workers`.",
    )
    quorum_seconds: float = Field(
        default=5.0,
        strict=True,
        gt=0,
        le=3600,
        description="Seconds after the first observation of a step at which what is there must suffice.",
    )
    labels: Labels = Field(default_factory=dict, max_length=32, description="Free text to find the run by.")


class Run(Message):
    """What the controller knows of a run."""

    project: Name
    run: Name
    spec: RunSpec
    status: RunStatus = Field(
        description="created (nothing observed yet), active, stale (observations overdue), finished, failed."
    )
    attempt: Count = Field(description="The attempt that may write; older ones are fenced off. The first is 1.")
    version: Count = Field(description="Number of decisions made by the lineage that the attempt continues.")
    last_step: Count | None = Field(default=None, description="Step of the newest decision, in optimizer steps.")
    created_at: Real = Field(description="Seconds since the epoch, controller's clock.")
    updated_at: Real = Field(description="Seconds since the epoch of the last observation or change of status.")
    decisions: Count = Field(description="Decisions in the history of the current attempt.")
    reason: ShortText | None = Field(default=None, description="Why the run failed, as the client put it.")


class RunPage(Message):
    """Some runs of a project, newest first."""

    runs: tuple[Run, ...]
    next_cursor: str | None = Field(default=None, description="Give it as `cursor` to go on; absent on the last page.")


class ProjectList(Message):
    """Projects that have or had runs, as far as the caller may read them, in order of name."""

    projects: tuple[Name, ...]


class RunEnd(Message):
    """Body of `:finish` and `:fail`; may be empty."""

    reason: ShortText | None = Field(default=None, description="Why, for people.")


class AttemptRequest(Message):
    """A restart from a checkpoint. It fences the attempt before it: whatever that still sends is refused."""

    attempt: Count | None = Field(
        default=None,
        description="The number wanted, for a client that restarted while the controller was away; the next one if "
        "absent. The current number with the same state answers again what was answered.",
    )
    step: Count | None = Field(default=None, description="Optimizer step of the checkpoint.")
    state: str | None = Field(
        default=None, max_length=65536, description="State token of the checkpoint; the stored one if absent."
    )
    version: Count | None = Field(default=None, description="Version that came with the state token.")


class Attempt(Message):
    """The attempt that now owns the run, and the state it starts from."""

    attempt: Count
    version: Count
    state: str | None = Field(default=None, description="State token to echo in the first observation.")
