"""Decisions that wait for the controller: in order, each once, and as small as the wire allows."""

from collections.abc import Iterable, Sequence

from dcao_proto import BackfillRequest, JournalEntry


def merged(*parts: Iterable[JournalEntry]) -> list[JournalEntry]:
    """The entries of all parts in order of attempt and step, each once; of two with one place the later part's."""
    by_place = {(entry.decision.attempt, entry.decision.step): entry for part in parts for entry in part}
    return [by_place[place] for place in sorted(by_place)]


def backfill_body(chunk: Sequence[JournalEntry], attempt: int) -> bytes:
    """A chunk as the body of a backfill, under the attempt that owns it now.

    The first token says where the chunk begins, the last where it ends; those between follow from them and would be
    most of its size. After a hole it begins anew.
    """
    before = [None, *(entry.decision.version for entry in chunk)]
    entries = tuple(
        _for_wire(entry, attempt, first=entry.observation.version != version, last=entry is chunk[-1])
        for version, entry in zip(before, chunk, strict=False)
    )
    return BackfillRequest(entries=entries).wire_json()


def _for_wire(entry: JournalEntry, attempt: int, *, first: bool, last: bool) -> JournalEntry:
    observation: dict[str, object] = {"attempt": attempt}
    decision: dict[str, object] = {"attempt": attempt}
    if not first:
        observation.update(state=None, version=None)
    if not last:
        decision["state"] = None
    return JournalEntry.model_construct(
        observation=entry.observation.model_copy(update=observation),
        decision=entry.decision.model_copy(update=decision),
    )
