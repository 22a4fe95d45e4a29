"""`dcao sync`: sends a journal that a training process left behind."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from dcao_client.backlog import CHUNK, Delivery, backfill_body, deliver
from dcao_client.cli.api import DEFAULT_URL
from dcao_client.cli.options import Url
from dcao_client.cli.output import CommandError, console
from dcao_client.errors import DcaoError
from dcao_client.journal import JournalHeader, read_journal, write_journal
from dcao_client.once import Once
from dcao_client.settings import ClientSettings
from dcao_client.transport import Transport, open_transport
from dcao_proto import BackfillResult, JournalEntry
from dcao_proto.paths import BACKFILL, RUN
from dcao_proto.reading import UnreadableAnswerError, read_answer

TIMEOUT = 30.0  # s for one request


def sync(
    journal: Annotated[Path, typer.Argument(help="The journal file.", exists=True, dir_okay=False)],
    keep: Annotated[bool, typer.Option(help="Keep the file after everything was sent.")] = False,
    url: Url = None,
) -> None:
    """Sends the decisions of a journal to the controller. Sending twice does no harm."""
    try:
        damaged: list[DcaoError] = []
        header, entries = read_journal(journal, damaged.append)
        settings = ClientSettings.read(url=url)
        sending = _Sending(open_transport(settings, settings.url or DEFAULT_URL, None, Once()), header)
        sending.declare()
        apart = journal.with_name(f"{journal.stem}.refused.jsonl")
        refused = 0
        while chunk := list(islice(entries, CHUNK)):
            left = sending.send(chunk)
            write_journal(apart, header, left) if left else None
            refused += len(left)
    except (DcaoError, UnreadableAnswerError, OSError) as error:
        raise CommandError(str(error)) from error
    console().print(f"{header.project}/{header.run}: {sending.tally}")
    if refused:
        console().print(
            f"{refused} were not taken and are in {apart}; the last time because {sending.why}", markup=False
        )
    for line in damaged[:MOST_SAID]:
        console().print(f"{line}; it was passed over and the journal is kept", markup=False)
    if sending.fenced:
        raise CommandError(
            f"{sending.fenced} are of an attempt that a newer one has taken over, whose history stands; {journal} is "
            "kept. Delete it if that is right; give a new training a new name"
        )
    if not keep and not damaged:
        journal.unlink()


MOST_SAID = 10  # damaged lines that are named


class _Sending:
    """The chunks of one journal, and what became of them."""

    def __init__(self, transport: Transport, header: JournalHeader) -> None:
        self._transport = transport
        self._header = header
        self._names = {"project": header.project, "run": header.run}
        self._seen: set[tuple[int, int]] = set()
        self._stored = self._replayed = self.fenced = 0
        self.why = "a step is decided once"

    @property
    def tally(self) -> str:
        """In words."""
        return f"{self._stored} stored, {self._replayed} were there already, {self.fenced} fenced off"

    def declare(self) -> None:
        """Creates the run or finds it."""
        body = self._header.spec.wire_json()
        self._transport.send("PUT", RUN.format(**self._names), body, timeout=TIMEOUT)

    def send(self, chunk: Sequence[JournalEntry]) -> list[JournalEntry]:
        """Sends what can be sent; what the controller does not take.

        Raises:
            UnreachableError, RefusedError: it cannot be asked, or takes nothing at all.
        """
        first = [entry for entry in chunk if self._is_first(entry)]
        result = deliver(first, self._post) if first else Delivery()
        if result.why is not None:
            self.why = str(result.why)
            if not result.accepted and len(result.refused) < len(first):
                raise result.why
        sent = {id(entry) for entry in result.accepted}
        return [entry for entry in chunk if id(entry) not in sent]

    def _is_first(self, entry: JournalEntry) -> bool:
        """Whether the step was not there before; the first decision of a step is the one that counts."""
        place = (entry.decision.attempt, entry.decision.step)
        known = place in self._seen
        self._seen.add(place)
        return not known

    def _post(self, part: Sequence[JournalEntry]) -> None:
        reply = self._transport.send("POST", BACKFILL.format(**self._names), backfill_body(part), timeout=TIMEOUT)
        result = read_answer(BackfillResult, reply.body)
        self._stored += result.stored
        self._replayed += result.replayed
        self.fenced += result.fenced
