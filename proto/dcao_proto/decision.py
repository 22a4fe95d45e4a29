"""What the controller answers, and what the history keeps."""

from typing import Annotated, Literal

from pydantic import Field

from dcao_proto.hyperparameters import Multipliers
from dcao_proto.message import (
    MAX_GROUPS,
    MAX_REASONS,
    AttemptNumber,
    Count,
    Message,
    Name,
    NonNegative,
    Real,
    ShortText,
)
from dcao_proto.observation import MAX_TOKEN_LENGTH, Observation
from dcao_proto.run import RunSpec

Regime = Literal["calibrating", "flat", "stable", "edge", "unstable", "diverged", "held", "pending"]
Action = Literal["continue", "rollback", "stop"]
Reason = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(:[a-z0-9_.-]+)?$", max_length=64)]
MAX_BACKFILL = 1000
MAX_CAUSES, MAX_NUMBERS = 16, 8
NumberName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)]


class GroupMultiplier(Message):
    """A further factor on the learning rate of one parameter group."""

    name: Name
    multiplier: NonNegative


class Cause(Message):
    """What moved or held a value, with the numbers that a person wants to hear of it."""

    code: Reason = Field(description="Names the sentence; of a value, after the colon, where it is about one.")
    numbers: dict[NumberName, Real] = Field(
        default_factory=dict,
        max_length=MAX_NUMBERS,
        description="What the sentence's placeholders stand for; docs/reasons.md has their units.",
    )


class Decision(Message):
    """What to use from this step on: base × multiplier, at most the ceiling, ready to write into the optimizer."""

    attempt: AttemptNumber
    step: Count = Field(description="The observation's step; the values hold from this step on.")
    lr: NonNegative = Field(description="η to use.")
    momentum: float = Field(ge=0, lt=1, description="β to use (β₁ for the Adam family).")
    weight_decay: NonNegative = Field(description="λ to use.")
    multipliers: Multipliers
    ceiling: NonNegative | None = Field(
        default=None,
        description="Absolute bound on η until the next decision: whatever the base does meanwhile, the optimizer uses "
        "min(base.lr · multipliers.lr, ceiling). Absent where the law sets none.",
    )
    edge_ratio: Real | None = Field(
        default=None,
        description="e = η·ρ/threshold with the decided values; 1 is the edge of stability. Absent without a "
        "spectrum or for an optimizer without a threshold.",
    )
    regime: Regime = Field(
        description="calibrating; flat (e < 0.1 or ρ ≤ 0), stable (e < 0.8), edge (e ≤ 1.2), unstable (e > 1.2); "
        "held (observation not used); diverged; pending (other workers' observations are awaited)."
    )
    reasons: tuple[Reason, ...] = Field(
        default=(),
        max_length=MAX_REASONS,
        fail_fast=True,
        description="Codes of the stages that changed or held a value; the policy page has the sentences.",
    )
    causes: tuple[Cause, ...] | None = Field(
        default=None,
        max_length=MAX_CAUSES,
        fail_fast=True,
        description="Why the values are what they are, in the order of the stages. Absent from what was decided before "
        "there were causes, and from a journal: a controller that decides alike knows them itself.",
    )
    next_probe_in: int = Field(ge=1, description="Optimizer steps until the next probe.")
    action: Action = Field(default="continue", description="Advice to the training loop.")
    groups: tuple[GroupMultiplier, ...] | None = Field(default=None, max_length=MAX_GROUPS, fail_fast=True)
    policy: ShortText = Field(description="Policy and version that decided, as name@version.")
    replayed: bool = Field(default=False, description="This step had been decided before; the first decision stands.")
    persisted: bool = Field(default=False, description="The decision is in the history.")
    state: str | None = Field(
        default=None,
        max_length=MAX_TOKEN_LENGTH,
        description="State token to echo in the next observation. Opaque. Absent in the history.",
    )
    version: Count = Field(description="Number of decisions so far; to echo with the state.")


class Record(Message):
    """One entry of a run's history: what was observed and what was decided, once for each (attempt, step)."""

    attempt: AttemptNumber
    step: Count
    observation: Observation = Field(description="As observed, or as aggregated; without the state token.")
    decision: Decision = Field(description="As applied; without the state token.")
    recorded_at: Real = Field(description="Seconds since the epoch, controller's clock.")
    origin: Literal["online", "backfill"] = Field(default="online", description="How it came into the history.")
    deviates: bool = Field(
        default=False, description="Backfilled, and the controller's own policy would have decided otherwise."
    )


class HistoryPage(Message):
    """Some records in order of attempt and step."""

    records: tuple[Record, ...]
    next_cursor: str | None = Field(default=None, description="Give it as `after` to go on; absent on the last page.")


class Outline(Message):
    """A run's history, or a part of it, in few records: the first and the last, and of each of some equal parts those
    with the smallest and the largest edge ratio, sharpness and loss. Every record of a short history."""

    records: tuple[Record, ...]
    total: Count = Field(description="Records looked at; those that are not here lie between the ones that are.")
    complete: bool = Field(description="False while a long history is still being read: ask again.")
    cursor: str | None = Field(default=None, description="Place of the last one looked at: `after` it come the rest.")


class JournalEntry(Message):
    """One decision that a client made on its own: the observation and the decision that it applied."""

    observation: Observation
    decision: Decision


class BackfillRequest(Message):
    """A client's journal, in order of step; idempotent."""

    entries: tuple[JournalEntry, ...] = Field(min_length=1, max_length=MAX_BACKFILL, fail_fast=True)


class BackfillResult(Message):
    """What became of the entries: stored + replayed + fenced = sent."""

    stored: Count = Field(description="Entries that the history did not have.")
    replayed: Count = Field(description="Entries that the history had already.")
    fenced: Count = Field(default=0, description="Entries of an attempt that no longer owns the run; not stored.")
    deviating: tuple[Count, ...] = Field(
        default=(), description="Steps whose decision this controller's policy would not have made."
    )
    version: Count
    last_step: Count | None = None


class DecideRequest(Message):
    """Body of `POST /v1/decide`: everything that a decision depends on; nothing is stored."""

    spec: RunSpec
    observation: Observation = Field(description="With the state token and version of the last decision, if any.")
