"""The journal: decisions that the controller has not seen, one JSON line each, behind a header that names the run.

It survives the process. `dcao sync FILE` sends it later; sending twice does no harm.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pydantic import Field, ValidationError

from dcao_client.errors import DcaoError
from dcao_proto import JournalEntry, RunSpec
from dcao_proto.message import Count, Message, Name

MAX_BYTES = 64 * 1024 * 1024  # some 40,000 decisions: more than a week of probes every 10 s


class JournalHeader(Message):
    """First line of a journal."""

    dcao_journal: Count = Field(default=1, description="Format version.")
    project: Name
    run: Name
    spec: RunSpec


class Journal:
    """Appends entries to a file that is created with the first one. Full or unwritable, it counts what it lost.

    Args:
        directory: of the journals; the file is `<project>/<run>.jsonl`, numbered if an older one is still there.
        header: what the file is about.
    """

    def __init__(self, directory: Path, header: JournalHeader, *, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory / header.project
        self._header = header
        self._max_bytes = max_bytes
        self._file: IO[bytes] | None = None
        self.path: Path | None = None
        self.lost = 0
        self._empty = True

    def append(self, entry: JournalEntry) -> None:
        """Writes one entry through to the operating system; never raises."""
        try:
            file = self._file or self._create()
            if file.tell() > self._max_bytes:
                self.lost += 1
                return
            if not self._empty:  # the token of the first observation says where the journal begins; one is enough
                bare = entry.observation.model_copy(update={"state": None, "version": None})
                entry = JournalEntry.model_construct(observation=bare, decision=entry.decision)
            file.write(entry.wire_json() + b"\n")
            self._empty = False
            file.flush()
        except OSError:
            self.lost += 1

    def _create(self) -> IO[bytes]:
        self._directory.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            name = self._header.run + (f".{number}" if number else "") + ".jsonl"
            try:
                self._file = (self._directory / name).open("xb")
                break
            except FileExistsError:  # what an earlier process left is not ours to change
                number += 1
        self.path = self._directory / name
        self._file.write(self._header.wire_json() + b"\n")
        self._empty = True
        return self._file

    def discard(self) -> None:
        """Removes the file: the controller has everything."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None

    def close(self) -> None:
        """Closes the file and keeps it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_journal(path: Path) -> tuple[JournalHeader, Iterator[JournalEntry]]:
    """The header and the entries of a journal. A last line that a crash cut short is left out.

    Raises:
        DcaoError: not a journal, or a line before the last is damaged.
    """
    with path.open("rb") as file:
        first = file.readline()
    try:
        header = JournalHeader.model_validate_json(first)
    except ValidationError as error:
        raise DcaoError(f"expected {path} to start with a journal header, got {first[:60]!r}") from error
    return header, _entries(path)


def _entries(path: Path) -> Iterator[JournalEntry]:
    with path.open("rb") as file:
        file.readline()
        for number, line in enumerate(file, start=2):
            try:
                yield JournalEntry.model_validate_json(line)
            except ValidationError as error:
                if not line.endswith(b"\n"):
                    return
                raise DcaoError(f"{path}, line {number} is damaged; remove it to send the rest") from error
