"""The body of a backfill, taken apart entry by entry.

A parser that takes 16 MB at once keeps the event loop for a quarter of a second, and for half a minute to list what is
wrong with a million empty entries. Here an entry's end is found by its braces, then it is parsed and checked alone; the
first that does not fit ends it.
"""

import re
from collections.abc import Iterator

from dcao_proto import BackfillRequest, JournalEntry, ProblemError, ProblemKind
from dcao_proto.decision import MAX_BACKFILL
from dcao_server.asgi.shape import MOST_VALUES, check_shape
from dcao_server.decisions.parsing import parse
from dcao_server.settings import KIB
from dcao_server.turns import Turn

MOST_BYTES = 256 * KIB
"""Of one entry: two state tokens of 64 KiB and all the groups."""
_START = re.compile(rb'[ \t\r\n]*+\{[ \t\r\n]*+"entries"[ \t\r\n]*+:[ \t\r\n]*+\[[ \t\r\n]*+')
_BETWEEN = re.compile(rb"[ \t\r\n]*+,[ \t\r\n]*+")
_END = re.compile(rb"[ \t\r\n]*+\][ \t\r\n]*+\}[ \t\r\n]*+\Z")
_BRACE = re.compile(rb'(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+([{}])', re.DOTALL)
_PLAIN = 64 * KIB
"""A body up to this size that begins otherwise is parsed as a whole, for a refusal that names the fields."""


async def parse_journal(body: bytes) -> BackfillRequest:
    """The journal in a body.

    Raises:
        ProblemError: malformed, if it is no JSON; invalid, if it is not a journal, or too long a one.
    """
    if _START.match(body) is None or _END.search(body, max(0, len(body) - 200)) is None:
        return _otherwise(body)
    turn = Turn()
    entries: list[JournalEntry] = []
    for entry in _slices(body):
        if len(entries) == MAX_BACKFILL:
            raise ProblemError(
                ProblemKind.INVALID,
                f"expected at most {MAX_BACKFILL} entries, got more; send them in several calls, oldest first",
            )
        check_shape(entry, 2 * MOST_VALUES)
        entries.append(parse(JournalEntry, entry, ("entries", len(entries))))
        await turn.breathe()
    if not entries:
        return _otherwise(body)
    return BackfillRequest.model_construct(entries=tuple(entries))


def _otherwise(body: bytes) -> BackfillRequest:
    if len(body) > _PLAIN:
        raise ProblemError(
            ProblemKind.INVALID, 'expected {"entries": [{"observation": …, "decision": …}, …]}, got something else'
        )
    check_shape(body)
    return parse(BackfillRequest, body)


def _slices(body: bytes) -> Iterator[bytes]:
    """The entries' bytes. What is between them is checked, what is in them is not.

    Raises:
        ProblemError: malformed, invalid.
    """
    started = _START.match(body)
    assert started is not None  # noqa: S101  (the caller has looked)
    at = started.end()
    if _END.match(body, at):
        return
    while True:
        end = _entry_end(body, at)
        yield body[at:end]
        if _END.match(body, end):
            return
        between = _BETWEEN.match(body, end)
        if between is None:
            raise ProblemError(ProblemKind.MALFORMED, "expected a JSON document as body, got something else")
        at = between.end()


def _entry_end(body: bytes, at: int) -> int:
    """Where the object that begins at `at` ends."""
    if body[at : at + 1] != b"{":
        raise ProblemError(ProblemKind.INVALID, "expected an object for each entry, got something else")
    depth, last = 0, at + MOST_BYTES
    position = at
    for _ in range(4 * MOST_VALUES):
        brace = _BRACE.match(body, position, last)
        if brace is None:
            break
        position = brace.end()
        depth += 1 if brace[1] == b"{" else -1
        if depth == 0:
            return position
    raise ProblemError(
        ProblemKind.INVALID,
        f"expected entries of at most {MOST_BYTES} bytes and {2 * MOST_VALUES} values each, got a longer one or one "
        "without an end",
    )
