"""What a store of runs and their histories promises. Two implementations keep the promise; one test suite checks both.

Of a run the store knows its specification (opaque, compared by digest), its state token (opaque), the attempt that may
write, and one history for each attempt: payloads (opaque) in order of step. The store decides nothing about training;
it decides who may write what, once.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from dcao_server.store.trouble import Trouble, TroubleKind

StoredStatus = Literal["created", "active", "finished", "failed"]
ENDED = frozenset({"finished", "failed"})


class StoreUnavailableError(Exception):
    """The store cannot be reached, or cannot write now. Nothing is known about whether the last call took effect.

    Every call may be repeated: all of them are idempotent.

    Args:
        trouble: why; a text for a reason of no kind.
    """

    def __init__(self, trouble: Trouble | str = "") -> None:
        self.trouble = Trouble(TroubleKind.UNREACHABLE, trouble) if isinstance(trouble, str) else trouble
        super().__init__(str(self.trouble))


class RunKey(NamedTuple):
    """Names one run of one project."""

    project: str
    run: str


class Position(NamedTuple):
    """A place in a run's history: that of one record. Positions are ordered as the history is."""

    attempt: int
    step: int


START = Position(0, -1)
"""Before every record."""


class StoredRecord(NamedTuple):
    """One entry of a history."""

    attempt: int
    step: int
    payload: bytes

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.attempt, self.step)


class AttemptStart(NamedTuple):
    """Where one attempt of a run started from."""

    attempt: int
    version: int
    step: int | None


class StoredRun(NamedTuple):
    """All that the store knows of a run. Times are seconds since the epoch."""

    key: RunKey
    spec: str
    digest: str
    status: StoredStatus
    attempt: int
    version: int
    state: str
    last_step: int | None
    created_at: float
    updated_at: float
    decisions: int
    reason: str | None
    attempts: tuple[AttemptStart, ...]
    """In order; filled in by `get` only: a run may have thousands."""
    about: str = ""
    """What people wrote about it (opaque); "" for nothing."""
    counts: Mapping[str, int] = MappingProxyType({})
    """How often each outcome and reason was tallied; filled in by `live` only."""


LiveRun = tuple[StoredRun, StoredRecord | None]
"""A run with its counts, and its newest record."""


Seen = tuple[StoredRun, tuple[StoredRecord, ...]]
"""A run with its counts, and its newest records, the newest first."""


class Head(NamedTuple):
    """What a decision needs of a run whose client echoes nothing."""

    attempt: int
    version: int
    state: str
    status: StoredStatus


class Outcome(IntEnum):
    """What became of a write. The numbers are the return codes of the Lua scripts."""

    APPENDED = 0
    REPLAYED = 1  # the step is in the history: its record is returned, nothing was written
    CONFLICT = 2  # the caller's version is behind: the newest state is returned, nothing was written
    HEALED = 3  # appended, though the caller's version is ahead: the store had lost writes
    STALE = 4  # the history is past this step and does not hold it
    FENCED = 5  # a newer attempt owns the run
    MISSING = 6  # no such run
    ENDED = 7  # the run has finished or failed
    OTHER_SPEC = 8  # the caller's token is of a run with another specification
    PENDING = 9  # observations of other workers are awaited
    READY = 10  # the observations suffice for a decision
    IMPLAUSIBLE = 11  # the caller's version is ahead by more decisions than there were steps; nothing was written
    EXHAUSTED = 12  # the run has had as many attempts as a run may have


class Append(NamedTuple):
    """One decision to append. `version` is the one the caller decided from; the stored one becomes `version + 1`."""

    attempt: int
    step: int
    version: int
    digest: str
    payload: bytes
    state: str
    now: float


class AppendResult(NamedTuple):
    """`version`, `last_step` and `state` are what is in force after the call, as far as the outcome tells them.

    After FENCED, `version` is the attempt that owns the run. After HEALED, `last_step` is the newest step that the
    store still had before, None if it had none.
    """

    outcome: Outcome
    version: int = 0
    last_step: int | None = None
    state: str = ""
    payload: bytes = b""


class Contribution(NamedTuple):
    """One worker's observation at one step of a run whose workers decide together.

    `quorum` observations suffice, or what is there `quorum_seconds` after the first one (store's clock). No more than
    `most` are taken, whatever workers call themselves.
    """

    attempt: int
    step: int
    digest: str
    worker: str
    observation: bytes
    quorum: int
    most: int
    quorum_seconds: float


class Gathering(NamedTuple):
    """What is known of a step after a contribution: `observations` (by worker) when READY, `payload` when REPLAYED."""

    outcome: Outcome
    version: int = 0
    last_step: int | None = None
    state: str = ""
    payload: bytes = b""
    observations: tuple[tuple[str, bytes], ...] = ()


class Backfill(NamedTuple):
    """Decisions made elsewhere, of one attempt, in order of step; `version` and `state` are those after the last."""

    attempt: int
    digest: str
    entries: tuple[tuple[int, bytes], ...]
    version: int
    state: str
    now: float


class BackfillOutcome(NamedTuple):
    """`outcome` is APPENDED, or says why nothing was written; STALE: too many newer records to insert below them."""

    outcome: Outcome
    stored: int = 0
    replayed: int = 0
    version: int = 0
    last_step: int | None = None


class Restart(NamedTuple):
    """A new attempt: `attempt` None is the next one; `state` None is the stored one, `version` belongs to it."""

    attempt: int | None
    step: int | None
    state: str | None
    version: int | None
    digest: str
    now: float


class RestartResult(NamedTuple):
    """APPENDED or REPLAYED with the attempt's number and start; FENCED with the number that owns the run; MISSING;
    EXHAUSTED."""

    outcome: Outcome
    attempt: int = 0
    version: int = 0
    state: str = ""


class Creation(NamedTuple):
    """A run to create. `attempt`, `version`: 1 and 0, unless a run that the store lost is restored from a token."""

    spec: str
    digest: str
    state: str
    now: float
    attempt: int = 1
    version: int = 0


class HistoryStore(Protocol):
    """A store of runs. Every method but `close` raises StoreUnavailableError; every write may be repeated."""

    kind: str

    async def open(self) -> None:
        """Gets ready. A store that cannot be reached yet is no error: the calls after will say so."""

    async def close(self) -> None:
        """Releases everything; further calls fail, but `close` itself."""

    async def ping(self) -> None:
        """Answers if the store can be reached and written."""

    async def create(self, key: RunKey, creation: Creation, *, restore: bool = False) -> tuple[StoredRun, bool] | None:
        """The run, and whether this call created it. An existing run is returned as it is, whatever its spec.

        With `restore`, a run that was deleted within the last day stays so and None is returned: a worker that goes on
        must not bring it back.
        """

    async def get(self, key: RunKey) -> StoredRun | None:
        """The run, None if there is none."""

    async def head(self, key: RunKey) -> Head | None:
        """The state in force, None if there is no such run."""

    async def page(self, project: str, after: tuple[float, str] | None, limit: int) -> list[StoredRun]:
        """Runs of a project, newest first, those after (created_at, name) in that order."""

    async def projects(self, after: str, limit: int) -> list[str]:
        """Projects with entries in their index, in order of name, those after a name; "" is before all."""

    async def end(self, key: RunKey, status: StoredStatus, reason: str | None, now: float) -> StoredRun | None:
        """Ends a run; the first end stands and is returned. None if there is no such run."""

    async def annotate(self, key: RunKey, about: str, now: float) -> StoredRun | None:
        """Takes what people wrote about a run, whole; its times stay. None if there is no such run."""

    async def delete(self, key: RunKey, now: float) -> bool:
        """Deletes a run with its histories; False if there is none."""

    async def begin_attempt(self, key: RunKey, restart: Restart) -> RestartResult:
        """Makes an attempt the one that may write. The same number with the same state again: the same answer."""

    async def append(self, key: RunKey, item: Append) -> AppendResult:
        """Appends a decision, unless the step has one: the first decision wins."""

    async def gather(self, key: RunKey, item: Contribution) -> Gathering:
        """Adds a worker's observation of a step; the first one of each worker counts."""

    async def backfill(self, key: RunKey, batch: Backfill) -> BackfillOutcome:
        """Puts decisions into the history where they belong by step; a step that has one keeps it."""

    async def read(self, key: RunKey, after: Position, limit: int) -> list[StoredRecord]:
        """Records after a position, in order of attempt and step; empty if there are none, or no such run."""

    def follow(self, key: RunKey, after: Position) -> AsyncIterator[StoredRecord]:
        """Records after a position as they are appended, without end. Backfilled older ones are not among them."""

    def live(self, since: float, limit: int) -> AsyncIterator[LiveRun]:
        """Runs that observed something since a time and have not ended, newest first; read as they are asked for."""

    async def count_live(self, since: float) -> int:
        """How many runs `live` finds without a limit, about: some may have expired, or ended on another replica."""

    def changed(self, since: float | None) -> AsyncIterator[list[RunKey]]:
        """Runs that something happened to since a time, deleted ones among them, a few hundred at a time; with None
        every run that there is. Of each project the newest change first; a run may be named twice."""

    async def look(self, keys: Sequence[RunKey]) -> dict[RunKey, Seen]:
        """Those of some runs that exist, ended or not, with their newest two records, the newest first; meant for a
        handful at a time. Two, since the last of a run that has ended may hold no more than what its user logged."""

    def tally(self, key: RunKey, names: Iterable[str]) -> None:
        """Counts an outcome and reasons of a run. Does not wait; the store hears of it within seconds."""

    async def prune(self, key: RunKey, max_records: int) -> int:
        """Trims every attempt's history to about its newest `max_records`; the number of records removed."""

    async def forget(self, project: str, runs: Sequence[str]) -> None:
        """Removes index entries of runs that no longer exist, and the project's own when it was the last."""

    async def index(self, project: str) -> list[str]:
        """Names in a project's index, of runs that exist or did."""
