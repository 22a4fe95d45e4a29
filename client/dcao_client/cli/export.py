"""`dcao export`: a run's whole history as a file."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from dcao_client.cli.api import Api
from dcao_client.cli.options import Project, Url
from dcao_client.cli.output import CommandError, errors
from dcao_client.names import wire_name
from dcao_proto.paths import run_path


def export(
    run: str,
    format: Annotated[Literal["csv", "ndjson", "json", "parquet"], typer.Option(help="Format.")] = "csv",  # noqa: A002  (the option's name)
    out: Annotated[Path | None, typer.Option(help="File; standard output if absent.")] = None,
    url: Url = None,
    project: Project = None,
) -> None:
    """Writes a run's whole history; floats are exact."""
    api = Api(url, project)
    info = api.run(run)  # a run that is not there is said before a file is made
    if info.last_step is None:
        errors().print(f"{info.project}/{info.run} has no decisions yet; what is written is empty")
    path = f"{run_path(api.project, wire_name(run))}/decisions"
    parts = _one_page(api.download(path, format="ndjson")) if format == "json" else api.download(path, format=format)
    if out is None:
        for part in parts:
            sys.stdout.buffer.write(part)
        return
    out = out.expanduser()
    partial = out.with_name(out.name + ".part")  # a half-written file never has the name
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for part in parts:
                file.write(part)
        partial.replace(out)
    except OSError as error:
        raise CommandError(f"expected to write {out}, got {error.strerror}; give --out another place") from None
    finally:
        partial.unlink(missing_ok=True)


def _one_page(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Records a line as the one page that they would be: the controller's own pages are limited."""
    yield b'{"records":['
    begun, rest = False, b""
    for part in lines:
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield b"," + line if begun else line
            begun = True
    yield b"]}\n"
