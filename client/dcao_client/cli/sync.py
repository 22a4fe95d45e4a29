"""`dcao sync`: sends a journal that a training process left behind."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dcao_client.cli.api import Api, errors
from dcao_client.cli.runs import Url
from dcao_client.courier import CHUNK
from dcao_client.errors import DcaoError
from dcao_client.journal import read_journal
from dcao_proto import BackfillRequest, BackfillResult
from dcao_proto.paths import BACKFILL, RUN

console = Console()


def sync(
    journal: Annotated[Path, typer.Argument(help="The journal file.", exists=True, dir_okay=False)],
    keep: Annotated[bool, typer.Option(help="Keep the file after everything was sent.")] = False,
    url: Url = None,
) -> None:
    """Sends the decisions of a journal to the controller. Sending twice does no harm."""
    try:
        header, entries = read_journal(journal)
        api = Api(url, header.project)
        names = {"project": header.project, "run": header.run}
        api.call("PUT", RUN.format(**names), content=header.spec.wire_json(), headers=JSON)
        stored = replayed = fenced = 0
        while chunk := tuple(islice(entries, CHUNK)):
            body = BackfillRequest(entries=chunk).wire_json()
            reply = api.call("POST", BACKFILL.format(**names), content=body, headers=JSON)
            result = BackfillResult.model_validate_json(reply.content)
            stored, replayed, fenced = stored + result.stored, replayed + result.replayed, fenced + result.fenced
    except DcaoError as error:
        errors.print(str(error))
        raise typer.Exit(1) from error
    console.print(f"{header.project}/{header.run}: {stored} stored, {replayed} were there already, {fenced} fenced off")
    if not keep and not fenced:
        journal.unlink()


JSON = {"content-type": "application/json"}
