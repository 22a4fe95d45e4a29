"""`dcao serve`: the controller, started through its own command so that the client never imports it."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from dcao_client.cli.output import CommandError


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind. [DCAO_HOST, 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind. [DCAO_PORT, 8000]")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Redis; without it SQLite. [DCAO_REDIS_URL]")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the SQLite file. [DCAO_DATA, .dcao]")] = None,
) -> None:
    """Starts the controller in the foreground."""
    beside = Path(sys.executable).with_name("dcao-controller")
    command = str(beside) if beside.exists() else shutil.which("dcao-controller")
    if command is None:
        raise CommandError("expected the command dcao-controller beside this one, got none; pip install 'dcao[server]'")
    options = {"--host": host, "--port": port, "--redis-url": redis_url, "--data": data}
    given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
    os.execv(command, [command, "serve", *given])  # noqa: S606  (our own command takes this process over)
