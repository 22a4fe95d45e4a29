"""`dcao serve`: the controller, started through its own command so that the client never imports it."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from dcao_client.cli.api import errors


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind. [DCAO_HOST, 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind. [DCAO_PORT, 8000]")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Redis; without it SQLite. [DCAO_REDIS_URL]")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the SQLite file. [DCAO_DATA, .dcao]")] = None,
) -> None:
    """Starts the controller in the foreground."""
    beside = Path(sys.executable).with_name("dcao-controller")
    command = str(beside) if beside.exists() else shutil.which("dcao-controller")
    if command is None or not _installed("uvicorn"):
        errors.print("the controller is not installed; pip install 'dcao[server]'")
        raise typer.Exit(1)
    options = {"--host": host, "--port": port, "--redis-url": redis_url, "--data": data}
    given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
    os.execv(command, [command, "serve", *given])  # noqa: S606  (our own command takes this process over)


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
