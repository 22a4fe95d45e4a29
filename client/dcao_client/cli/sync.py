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
from dcao_client.errors import DcaoError, RefusedError
from dcao_client.journal import JournalEnd, JournalHeader, read_journal, write_journal
from dcao_client.names import wire_name
from dcao_client.once import Once
from dcao_client.settings import ClientSettings
from dcao_client.transport import Transport, open_transport
from dcao_proto import BackfillResult, HistoryPage, JournalEntry, Observation, Run, RunEnd
from dcao_proto.message import MAX_COUNT
from dcao_proto.paths import BACKFILL, DECISIONS, FAIL, FINISH, RUN
from dcao_proto.reading import UnreadableAnswerError, read_answer

TIMEOUT = 30.0  # s for one request


def sync(
    journal: Annotated[Path, typer.Argument(help="The journal file.", exists=True, dir_okay=False)],
    keep: Annotated[bool, typer.Option(help="Keep the file after everything was sent.")] = False,
    run: Annotated[str | None, typer.Option(help="Name of the run on the controller, if not the journal's.")] = None,
    url: Url = None,
) -> None:
    """Sends the decisions of a journal, and how its run ended, to the controller. Sending twice does no harm."""
    try:
        damaged: list[DcaoError] = []
        ended: list[JournalEnd] = []
        header, entries = read_journal(journal, damaged.append, ended.append)
        if run is not None:
            header = header.model_copy(update={"run": wire_name(run)})
        settings = ClientSettings.read(url=url)
        sending = _Sending(open_transport(settings, settings.url or DEFAULT_URL, None, Once()), header)
        sending.declare()
        apart = journal.with_name(f"{journal.stem}.refused.jsonl")
        refused = 0
        while chunk := list(islice(entries, CHUNK)):
            if sending.is_first and not sending.continues(chunk[0]):
                raise CommandError(
                    f"another training has the name {header.project}/{header.run} on the controller, whose history "
                    f"stands; {journal} is kept. Send it under a name of its own: dcao sync {journal} --run NAME"
                )
            left = sending.send(chunk)
            write_journal(apart, header, left) if left else None
            refused += len(left)
        end = sending.end(ended[-1]) if ended and not sending.fenced else ""
    except (DcaoError, UnreadableAnswerError, OSError) as error:
        raise CommandError(str(error)) from error
    console().print(f"{header.project}/{header.run}: {sending.tally}{end}", markup=False)
    if refused:
        console().print(
            f"{refused} were not taken and are in {apart}; the last time because {sending.why}", markup=False
        )
    for line in damaged[:MOST_SAID]:
        console().print(f"{line}; it was passed over", markup=False)
    if damaged:
        console().print(f"{len(damaged)} lines are damaged; {journal} is kept, for they may be mended", markup=False)
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

    @property
    def is_first(self) -> bool:
        """Whether nothing was sent yet."""
        return not self._seen

    def declare(self) -> Run:
        """Creates the run or finds it."""
        body = self._header.spec.wire_json()
        reply = self._transport.send("PUT", RUN.format(**self._names), body, timeout=TIMEOUT)
        return read_answer(Run, reply.body)

    def continues(self, first: JournalEntry) -> bool:
        """Whether the controller has the journal's first step not yet, or as the journal has it.

        A name that was used again has another training there, and a step is decided once: what is sent would be taken
        for what is there already.
        """
        if self._header.spec.workers > 1:  # what is kept is what they saw together
            return True
        attempt, step = first.decision.attempt, first.decision.step
        after = f"{attempt}:{step - 1}" if step else f"{max(attempt - 1, 0)}:{MAX_COUNT}"
        path = f"{DECISIONS.format(**self._names)}?after={after}&limit=1"
        page = read_answer(HistoryPage, self._transport.send("GET", path, timeout=TIMEOUT).body)
        there = next(iter(page.records), None)
        if there is None or (there.attempt, there.step) != (attempt, step):
            return True
        return _seen_alike(there.observation, first.observation)

    def end(self, ended: JournalEnd) -> str:
        """Says how the run ended, unless a later attempt goes on; what became of that, to be added to the tally."""
        if (attempt := self.declare().attempt) > ended.attempt:
            return f"; that it {ended.ended} is not said, for attempt {attempt} goes on"
        path = (FINISH if ended.ended == "finished" else FAIL).format(**self._names)
        try:
            self._transport.send("POST", path, RunEnd(reason=ended.reason).wire_json(), timeout=TIMEOUT)
        except RefusedError as error:
            if error.slug != "run-ended":
                raise
            return f"; that it {ended.ended} is not taken, for it had ended otherwise"
        return f"; it {ended.ended}"

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


def _seen_alike(one: Observation, other: Observation) -> bool:
    """Whether two workers' steps are one: what was measured is the same to the last bit."""
    return (one.rho, one.gamma, one.loss, one.status) == (other.rho, other.gamma, other.loss, other.status)
