"""The journal: decisions that the controller has not seen, one JSON line each, behind a header that names the run.

It is the queue of what is to be delivered, and it survives the process: `dcao sync FILE` sends it later; sending twice
does no harm.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from dcao_client.errors import DcaoError
from dcao_client.once import Once
from dcao_proto import JournalEntry, RunSpec
from dcao_proto.message import AttemptNumber, Count, Message, Name, ShortText
from dcao_proto.policy.token import encode_spec

MAX_BYTES = 256 * 1024 * 1024  # some 150,000 decisions
MAX_LINE = 1024 * 1024  # bytes; an entry has some 2 KB
MAX_FILES = 10_000  # journals of one run that may lie beside each other


class JournalHeader(Message):
    """First line of a journal."""

    dcao_journal: Count = Field(default=1, description="Format version.")
    project: Name
    run: Name
    spec: RunSpec


class JournalEnd(Message):
    """Last line of a journal whose run has ended, where no controller knows of that yet."""

    ended: Literal["finished", "failed"]
    attempt: AttemptNumber = Field(description="The attempt that has ended; a later one goes on.")
    reason: ShortText | None = None


class Journal:
    """Appends entries to a file that is created with the first one. Full or unwritable, it counts what it lost.

    No method raises: training does not care whether the disk is full.

    Args:
        directory: of the journals; the file is `<project>/<run><suffix>.jsonl`, numbered if an older one is still
            there. None: nothing is kept.
        header: what the file is about.
        once: says the first time that something could not be kept.
        max_bytes: largest file.
        suffix: tells several files of one run apart.
    """

    def __init__(
        self, directory: Path | None, header: JournalHeader, once: Once, *, max_bytes: int = MAX_BYTES, suffix: str = ""
    ) -> None:
        self._directory = None if directory is None else directory / header.project
        self._header = header
        self._once = once
        self._max_bytes = max_bytes
        self._suffix = suffix
        self._file: FileIO | None = None
        self._end = 0  # bytes that are whole lines
        self._before: JournalEntry | None = None
        self.path: Path | None = None
        self.number = 0  # of files of this name that were there before it
        self.lost = 0  # decisions

    def append(self, entry: JournalEntry) -> int | None:
        """Writes one entry through to the operating system; its offset in the file, or None if it could not be kept."""
        offset = self._kept(lambda: self._append(entry))
        self.lost += offset is None and self._directory is not None
        return offset

    def end(self, ended: JournalEnd) -> bool:
        """Writes that the run has ended, behind its decisions or alone, however large the file; whether it is kept."""
        return self._kept(lambda: self._write(ended.wire_json() + b"\n")) is not None

    def _kept(self, write: Callable[[], int | None]) -> int | None:
        """What `write` gives, in a file that is open; None if it failed."""
        if self._directory is None:
            return None
        try:
            if self._file is None:
                self._create()
            return write()
        except OSError as error:
            self._say("journal", f"cannot be written: {error.strerror or type(error).__name__}")
        except Exception as error:  # noqa: BLE001  (whatever it is, it is no reason to stop training)
            self._say("journal", f"cannot be written: {type(error).__name__}")
        return None

    def _append(self, entry: JournalEntry) -> int | None:
        # The token that follows from the line before is left out: it is most of a line.
        bare = without_token(entry) if _follows(entry, self._before) else entry
        line = bare.wire_json() + b"\n"
        if self._end + len(line) > self._max_bytes:
            self._say("full", f"has reached its {self._max_bytes >> 20} MiB (DCAO_JOURNAL_MAX_MIB)")
            return None
        start = self._write(line)
        self._before = entry
        return start

    def _say(self, kind: str, why: str) -> None:
        where = self.path or self._directory
        self._once.warn(f"lost:{kind}", "the journal %s %s; what it lacks cannot be sent later", where, why)

    def _write(self, line: bytes) -> int:
        """Whole or not at all; where it begins."""
        assert self._file is not None  # noqa: S101  (the caller created it)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            self._file.truncate(self._end)  # no half line in the middle
            self._file.seek(self._end)
            raise
        self._end += len(line)
        return self._end - len(line)

    def _create(self) -> None:
        assert self._directory is not None  # noqa: S101  (the caller looked)
        self._directory.mkdir(parents=True, exist_ok=True)
        for number in range(MAX_FILES):
            path = self._directory / f"{self._header.run}{self._suffix}{f'.{number}' if number else ''}.jsonl"
            try:
                self._file = FileIO(path, "xb")
                break
            except FileExistsError:  # what an earlier process left is not ours to change
                continue
        else:
            raise OSError(None, f"{MAX_FILES} journals of this run are there already")
        self.path, self.number, self._end, self._before = path, number, 0, None
        self._write(self._header.wire_json() + b"\n")

    def entries(self, offset: int, count: int, before: JournalEntry | None) -> tuple[list[JournalEntry], int, int]:
        """The entries of so many lines from an offset on, with their tokens, the offset behind them, and how many
        lines are damaged: those are passed over.

        Args:
            offset: as `append` gave it.
            count: most entries.
            before: the entry that was written just before `offset`.

        Raises:
            OSError, DcaoError: the file is gone.
        """
        if self.path is None:
            raise DcaoError("there is no journal")
        found: list[JournalEntry] = []
        damaged = 0
        with self.path.open("rb") as file:
            file.seek(offset)
            while len(found) + damaged < count and (line := _line(file)):
                offset = file.tell()
                try:
                    found.append(with_token(_entry(line, self.path, f"byte {offset}"), before))
                    before = found[-1]
                except DcaoError:
                    damaged += 1
        return found, offset, damaged

    def discard(self) -> None:
        """Removes the file: the controller has everything."""
        path = self.path
        self.set_down()
        try:
            if path is not None:
                path.unlink(missing_ok=True)
        except OSError as error:
            self._once.warn("discard", "the journal %s was sent but cannot be removed: %s", path, error.strerror)

    def set_down(self) -> None:
        """Keeps the file as it is; what comes next goes into another."""
        self.close()
        self.path = None

    def close(self) -> None:
        """Closes the file and keeps it."""
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError as error:
            self._once.warn("close", "the journal %s could not be closed: %s", self.path, error.strerror)


def without_token(entry: JournalEntry) -> JournalEntry:
    """The entry without the token that its observation echoes."""
    bare = entry.observation.model_copy(update={"state": None, "version": None})
    return JournalEntry.model_construct(observation=bare, decision=entry.decision)


def with_token(entry: JournalEntry, before: JournalEntry | None) -> JournalEntry:
    """The entry with the token that follows from the one before, where it was left out.

    Not from one that it does not follow: lines between may be damaged, or be another run's.
    """
    seen = entry.observation
    if seen.state is not None or before is None or not _goes_on(entry, before):
        return entry
    known = {"state": before.decision.state, "version": before.decision.version}
    return JournalEntry.model_construct(observation=seen.model_copy(update=known), decision=entry.decision)


def write_journal(path: Path, header: JournalHeader, entries: Iterable[JournalEntry]) -> None:
    """Adds entries to a journal, or begins one.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("ab") as file:
        if file.tell() == 0:
            file.write(header.wire_json() + b"\n")
        for entry in entries:
            file.write(entry.wire_json() + b"\n")


def _follows(entry: JournalEntry, before: JournalEntry | None) -> bool:
    if before is None or before.decision.state is None or entry.observation.state is None:
        return False
    stood_on = entry.observation.state, entry.observation.version
    follows = entry.decision.version == before.decision.version + 1
    return follows and stood_on == (before.decision.state, before.decision.version)


def _goes_on(entry: JournalEntry, before: JournalEntry) -> bool:
    """Whether a decision is the next one of the same run."""
    if before.decision.state is None or entry.decision.version != before.decision.version + 1:
        return False
    return entry.decision.state is None or _specification(entry) == _specification(before)


def _specification(entry: JournalEntry) -> str:
    """That of the token after a decision, as it is written there; "" without one."""
    return (entry.decision.state or "").partition(".")[2].partition(".")[0]


def _line(file: BufferedReader) -> bytes:
    """The next line, whatever is in the file: of one that is too long to be an entry its beginning only."""
    line = rest = file.readline(MAX_LINE)
    while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
        rest = file.readline(MAX_LINE)
    return line if line is rest else line[:100] + rest[-1:]


def read_journal(
    path: Path,
    passed_over: Callable[[DcaoError], None] | None = None,
    ended: Callable[[JournalEnd], None] | None = None,
) -> tuple[JournalHeader, Iterator[JournalEntry]]:
    """The header and the entries of a journal. A last line that a crash cut short is left out.

    Args:
        path: of the file.
        passed_over: told of each damaged line, which then is left out too.
        ended: told how the run ended, if the journal says so, behind the entries.

    Raises:
        DcaoError: not a journal, or a line before the last is damaged and nobody wants to be told.
    """
    try:
        with path.open("rb") as file:
            first = file.readline(MAX_LINE)
        header = JournalHeader.model_validate_json(first)
    except OSError as error:
        raise DcaoError(f"expected a journal at {path}, got: {error.strerror}") from error
    except ValidationError:
        raise DcaoError(f"expected {path} to start with a journal header, got {first[:60]!r}") from None
    return header, _entries(path, encode_spec(header.spec), passed_over, ended)


def _entries(
    path: Path, own: str, passed_over: Callable[[DcaoError], None] | None, ended: Callable[[JournalEnd], None] | None
) -> Iterator[JournalEntry]:
    before: JournalEntry | None = None
    with path.open("rb") as file:
        file.readline(MAX_LINE)
        for number, line in enumerate(iter(partial(_line, file), b""), start=2):
            if not line.endswith(b"\n"):  # the process died while it wrote
                return
            if (end := _end_of(line)) is not None:
                if ended is not None:
                    ended(end)
                continue
            try:
                entry = with_token(_entry(line, path, f"line {number}"), before)
            except DcaoError as error:
                if passed_over is None:
                    raise DcaoError(f"{error}; remove the line to send the rest") from None
                passed_over(error)
                continue
            if before is None or _specification(entry) in (own, _specification(before)):
                before = entry  # another run's line is nothing to stand on
            yield entry


def _end_of(line: bytes) -> JournalEnd | None:
    try:
        return JournalEnd.model_validate_json(line) if line.startswith(b'{"ended"') else None
    except ValidationError:  # damaged, as an entry is
        return None


def _entry(line: bytes, path: Path, where: str) -> JournalEntry:
    try:
        return JournalEntry.model_validate_json(line)
    except ValidationError:
        raise DcaoError(f"{path}, {where} is damaged") from None
