"""Decisions that wait for the controller: in order, each once, and as small as memory and the wire allow."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from dcao_client.errors import DcaoError, RefusedError
from dcao_client.journal import Journal
from dcao_client.once import Once
from dcao_proto import BackfillRequest, JournalEntry

WINDOW = 1_000  # entries in memory, some 6 KB each; the journal has the rest
CHUNK = 200  # entries a backfill call: well below the protocol's 1,000 and a megabyte
GIVE_UP = 12  # refusals with nothing accepted after which the controller, not an entry, is taken to be wrong
# Refusals of what was sent; every other is of who sent it, or of when.
OF_CONTENT = ("invalid", "invalid-state", "malformed", "too-large", "stale-step")


class Backlog:
    """The queue of what the controller lacks: the oldest in memory, the rest in the journal. The session's lock is on.

    Args:
        journal: has every entry that it could take.
        once: says the first time that something had to be dropped.
    """

    def __init__(self, journal: Journal, once: Once) -> None:
        self._journal = journal
        self._once = once
        self._front: deque[JournalEntry] = deque()
        self._behind = 0  # entries in the journal behind those
        self._offset = 0  # of the first of them
        self._before: JournalEntry | None = None  # what was written just before that one
        self.dropped = 0  # kept neither in memory nor in the journal

    def __len__(self) -> int:
        return len(self._front) + self._behind

    def append(self, entry: JournalEntry) -> None:
        """Adds the newest decision, to the journal too."""
        offset = self._journal.append(entry)
        if not self._behind and len(self._front) < WINDOW:
            self._front.append(entry)
        elif offset is not None:
            if not self._behind:
                self._offset, self._before = offset, self._front[-1]
            self._behind += 1
        else:
            self._drop(1)

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._once.warn(
            "dropped",
            "decisions can be kept neither in memory nor in the journal any more; they are applied, but the "
            "controller's history will lack them (%d so far)",
            self.dropped,
        )

    def oldest(self, count: int = 1) -> list[JournalEntry]:
        """Up to so many of the oldest entries, without taking them."""
        if len(self._front) < count and self._behind:
            self._refill()
        return list(islice(self._front, count))

    def _refill(self) -> None:
        """Some of the journal's entries into memory: few enough that a decision that waits for the lock waits 20 ms."""
        try:
            found, self._offset, damaged = self._journal.entries(self._offset, min(self._behind, CHUNK), self._before)
        except (OSError, DcaoError):
            found, damaged = [], 0
        if not found and not damaged:
            damaged = self._behind
        if damaged:
            self._drop(damaged)
        self._behind -= len(found) + damaged
        if found:
            self._front.extend(found)
            self._before = found[-1]

    def take(self, done: Iterable[JournalEntry]) -> None:
        """Removes entries that `oldest` gave; the journal goes when nothing waits any more."""
        gone = {id(entry) for entry in done}
        self._front = deque(entry for entry in self._front if id(entry) not in gone)
        if not len(self):
            self._journal.discard()

    def put_back(self, entries: Iterable[JournalEntry]) -> None:
        """Adds entries that the controller had and lost, each once and in order."""
        self._front = deque(merged(entries, self._front))

    def set_down(self) -> None:
        """What waits stays in the journal's file, and waits no more; what comes next goes into another."""
        self._front.clear()
        self._behind = 0
        self._journal.set_down()


def merged(*parts: Iterable[JournalEntry]) -> list[JournalEntry]:
    """The entries of all parts in order of attempt and step, each once; of several with one place the first."""
    by_place: dict[tuple[int, int], JournalEntry] = {}
    for part in parts:
        for entry in part:
            by_place.setdefault((entry.decision.attempt, entry.decision.step), entry)
    return [by_place[place] for place in sorted(by_place)]


@dataclass
class Delivery:
    """What became of a chunk; what is in neither list was not tried."""

    accepted: list[JournalEntry] = field(default_factory=list)
    refused: list[JournalEntry] = field(default_factory=list)
    why: RefusedError | None = None  # the newest refusal


def deliver(chunk: Sequence[JournalEntry], send: Callable[[Sequence[JournalEntry]], None]) -> Delivery:
    """Sends a chunk; one that is refused is sent in halves, so that what can be delivered is.

    Args:
        chunk: in any order; of entries with one place only the first is sent, the others count as refused.
        send: sends some of it.

    Raises:
        RefusedError: who sends, or when, is refused, and not what.
    """
    result, refusals = Delivery(), 0
    ordered = merged(chunk)
    kept = {id(entry) for entry in ordered}
    doubles = [entry for entry in chunk if id(entry) not in kept]
    waiting: list[Sequence[JournalEntry]] = [ordered]
    while waiting and (result.accepted or refusals < GIVE_UP):
        part = waiting.pop()
        try:
            send(part)
            result.accepted.extend(part)
        except RefusedError as error:
            if error.slug not in OF_CONTENT or error.newer:
                raise
            result.why, refusals = error, refusals + 1
            if len(part) > 1:
                middle = len(part) // 2
                waiting += (part[middle:], part[:middle])
            else:
                result.refused.extend(part)
    if result.accepted:
        result.refused.extend(doubles)
    return result


def backfill_body(chunk: Sequence[JournalEntry], attempt: int | None = None) -> bytes:
    """A chunk as the body of a backfill, under the attempt that owns it now, or under its own.

    The first token says where the chunk begins, the last where it ends; those between follow from them and would be
    most of its size. After a hole it begins anew, and after an entry whose own token is lost with the line before it.
    """
    before = [None, *(None if entry.observation.state is None else entry.decision.version for entry in chunk)]
    entries = tuple(
        _for_wire(entry, attempt, first=entry.observation.version != version, last=entry is chunk[-1])
        for version, entry in zip(before, chunk, strict=False)
    )
    return BackfillRequest(entries=entries).wire_json()


def _for_wire(entry: JournalEntry, attempt: int | None, *, first: bool, last: bool) -> JournalEntry:
    owner: dict[str, object] = {"attempt": entry.decision.attempt if attempt is None else attempt}
    observation, decision = dict(owner), dict(owner)
    if not first:
        observation.update(state=None, version=None)
    if not last:
        decision["state"] = None
    return JournalEntry.model_construct(
        observation=entry.observation.model_copy(update=observation),
        decision=entry.decision.model_copy(update=decision),
    )
