"""A store as a dictionary: what the contract says, as plainly as it can be said."""

from dataclasses import dataclass, field

from dcao_proto.message import successor
from dcao_server.store.contract import (
    Append,
    AppendResult,
    Backfill,
    BackfillOutcome,
    Outcome,
    Restart,
    RestartResult,
)


@dataclass
class ModelRun:
    """One run of the model."""

    digest: str
    state: str
    attempt: int = 1
    version: int = 0
    status: str = "created"
    start: tuple[str, int] | None = None
    histories: dict[int, dict[int, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.start = (self.state, self.version)

    def steps(self, attempt: int) -> dict[int, bytes]:
        return self.histories.get(attempt, {})

    def last(self, attempt: int) -> int | None:
        return max(self.steps(attempt), default=None)

    def adopt(self, attempt: int) -> None:
        if attempt > self.attempt:
            self.attempt, self.start = attempt, None

    def append(self, item: Append) -> AppendResult:
        if item.digest != self.digest:
            return AppendResult(Outcome.OTHER_SPEC)
        if item.attempt < self.attempt:
            return AppendResult(Outcome.FENCED, self.attempt)
        unheard, last = item.attempt > self.attempt, self.last(item.attempt)
        if last is not None and item.step <= last:
            payload = self.steps(item.attempt).get(item.step)
            if payload is None:
                return AppendResult(Outcome.STALE, self.version, last)
            return AppendResult(Outcome.REPLAYED, self.version, last, self.state, payload)
        if self.status in ("finished", "failed"):
            return AppendResult(Outcome.ENDED, self.version, last)
        if not unheard and self.version > item.version:
            return AppendResult(Outcome.CONFLICT, self.version, last, self.state)
        if not unheard and item.version - self.version > item.step - (-1 if last is None else last):
            return AppendResult(Outcome.IMPLAUSIBLE, self.version, last)
        healed = unheard or self.version < item.version
        self.adopt(item.attempt)
        self.histories.setdefault(item.attempt, {})[item.step] = item.payload
        self.version, self.state, self.status = successor(item.version), item.state, "active"
        if healed:
            return AppendResult(Outcome.HEALED, self.version, last)
        return AppendResult(Outcome.APPENDED, self.version, item.step, item.state)

    def backfill(self, batch: Backfill) -> BackfillOutcome:
        if batch.digest != self.digest:
            return BackfillOutcome(Outcome.OTHER_SPEC)
        if batch.attempt < self.attempt:
            return BackfillOutcome(Outcome.FENCED)
        version = -1 if batch.attempt > self.attempt else self.version
        self.adopt(batch.attempt)
        history = self.histories.setdefault(batch.attempt, {})
        stored = sum(step not in history for step, _ in batch.entries)
        for step, payload in batch.entries:
            history.setdefault(step, payload)
        if batch.version > version:
            version, self.state = batch.version, batch.state
        self.version = version
        if self.status == "created":
            self.status = "active"
        last = self.last(batch.attempt)
        return BackfillOutcome(Outcome.APPENDED, stored, len(batch.entries) - stored, version, last)

    def restart(self, restart: Restart) -> RestartResult:
        if restart.state is not None and restart.digest != self.digest:
            return RestartResult(Outcome.OTHER_SPEC)
        attempt = self.attempt + 1 if restart.attempt is None else restart.attempt
        if attempt < self.attempt:
            return RestartResult(Outcome.FENCED, self.attempt)
        if attempt == self.attempt:
            if self.start is None or (restart.state is not None and self.start != (restart.state, restart.version)):
                return RestartResult(Outcome.FENCED, self.attempt)
            return RestartResult(Outcome.REPLAYED, attempt, self.start[1], self.start[0])
        if restart.state is not None and restart.version is not None:
            self.state, self.version = restart.state, restart.version
        self.attempt, self.start = attempt, (self.state, self.version)
        if self.status != "created":
            self.status = "active"
        return RestartResult(Outcome.APPENDED, attempt, self.version, self.state)

    def end(self, status: str) -> str:
        if self.status not in ("finished", "failed"):
            self.status = status
        return self.status

    def records(self) -> list[tuple[int, int, bytes]]:
        return [(a, s, self.histories[a][s]) for a in sorted(self.histories) for s in sorted(self.histories[a])]
