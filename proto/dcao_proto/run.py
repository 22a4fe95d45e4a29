"""A run: what is declared when it is created, and what the controller says of it afterwards."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dcao_proto.hyperparameters import Bounds, Hyperparameters
from dcao_proto.message import NAME_PATTERN, AttemptNumber, Count, Message, Name, Real, ShortText
from dcao_proto.optimizers import OptimizerName

Aggregate = Literal["first", "mean", "median", "max", "trimmed_mean"]
Scale = Literal["user", "path"]
Trust = Literal["watch", "guard", "auto"]
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
    scale: Scale = Field(
        default="user",
        description="Where the base learning rate comes from: `user` (the optimizer's value and its scheduler) or "
        "`path` (distance over gradients, computed by the client at every step, times the shape of a schedule).",
    )
    trust: Trust | None = Field(
        default=None,
        description="How far the controller may go: `watch` changes nothing, `guard` only lowers what the user set, "
        "`auto` leaves the user the shape of the schedule. Absent: as far as the bounds allow.",
    )
    bounds: Bounds = Field(default_factory=Bounds, description="Where they are absent, they follow from `trust`.")
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

    @model_validator(mode="before")
    @classmethod
    def _bounds_follow_from_trust(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("bounds") is None:
            trusted = BOUNDS.get("path" if given.get("scale") == "path" else given.get("trust"))
            return given if trusted is None else {**given, "bounds": trusted}
        return given

    @model_validator(mode="after")
    def _trust_is_kept(self) -> Self:
        if self.trust == "auto" and self.scale != "path":
            raise ValueError("trust auto takes the scale from the path: send scale path, or trust guard")
        if self.trust == "watch" and self.scale != "user":
            raise ValueError("trust watch leaves the scale to the user: send scale user, or trust guard")
        low, high = self.bounds.lr
        if (self.trust == "watch" and (low, high) != _KEPT) or (
            self.trust == "guard" and self.scale == "user" and high > 1
        ):
            raise ValueError(f"trust {self.trust} allows no such bounds on lr: leave the bounds out")
        return self


_KEPT = (1.0, 1.0)
BOUNDS: dict[str | None, Bounds] = {
    "watch": Bounds(lr=_KEPT, momentum=_KEPT, weight_decay=_KEPT),
    "guard": Bounds(lr=(0.0, 1.0), momentum=_KEPT, weight_decay=_KEPT),
    # A multiple of distance over gradients: no fixed point of the path lies above 4 (docs/policies.md).
    "path": Bounds(lr=(0.0, 16.0), momentum=_KEPT, weight_decay=_KEPT),
}


class RunAbout(Message):
    """What people write about a run. No decision depends on it; whoever may write may change it at any time."""

    title: ShortText | None = Field(
        default=None, description="What the page calls the run; its name, and so its address, stays."
    )
    note: Annotated[str, Field(max_length=2000)] | None = Field(default=None, description="Plain text.")
    tags: tuple[Name, ...] = Field(default=(), max_length=16, description="To find it by, besides its labels.")


class Run(Message):
    """What the controller knows of a run."""

    project: Name
    run: Name
    spec: RunSpec
    status: RunStatus = Field(
        description="created (nothing observed yet), active, stale (observations overdue), finished, failed."
    )
    attempt: AttemptNumber = Field(description="The attempt that may write; older ones are fenced off. The first is 1.")
    version: Count = Field(description="Number of decisions made by the lineage that the attempt continues.")
    last_step: Count | None = Field(default=None, description="Step of the newest decision, in optimizer steps.")
    created_at: Real = Field(description="Seconds since the epoch, controller's clock.")
    updated_at: Real = Field(description="Seconds since the epoch of the last observation or change of status.")
    decisions: Count = Field(description="Decisions in the history of the current attempt.")
    reason: ShortText | None = Field(default=None, description="Why the run failed, as the client put it.")
    about: RunAbout | None = Field(default=None, description="What people wrote about it; absent if nothing.")


class RunPage(Message):
    """Some runs of a project, newest first."""

    runs: tuple[Run, ...]
    next_cursor: str | None = Field(default=None, description="Give it as `cursor` to go on; absent on the last page.")


class ProjectList(Message):
    """Some projects that have runs, as far as the caller may read them, in order of name."""

    projects: tuple[Name, ...]
    next_cursor: str | None = Field(default=None, description="Give it as `cursor` to go on; absent on the last page.")


class RunEnd(Message):
    """Body of `:finish` and `:fail`; may be empty."""

    reason: ShortText | None = Field(default=None, description="Why, for people.")


class AttemptRequest(Message):
    """A restart from a checkpoint. It fences the attempt before it: whatever that still sends is refused."""

    attempt: AttemptNumber | None = Field(
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

    attempt: AttemptNumber
    version: Count
    state: str | None = Field(default=None, description="State token to echo in the first observation.")
