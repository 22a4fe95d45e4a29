"""`dcao-controller`: serve (what it does when nothing else is asked), keys, gc, openapi, settings.

`dcao serve` of the client package calls `main` through the entry point of this name.
"""

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from dcao_server.cli import keys
from dcao_server.cli.options import Data, Host, Port, RedisUrl, settings_from, stop
from dcao_server.settings import SettingsError, settings_table

app = typer.Typer(
    name="dcao-controller",
    help="The DCAO controller. Every setting is an environment variable, see `dcao-controller settings`.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(keys.app, name="keys")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dcao-controller {version('dcao')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    """Serve, when no command is named."""
    if context.invoked_subcommand is None:
        serve()


@app.command()
def serve(host: Host = None, port: Port = None, redis_url: RedisUrl = None, data: Data = None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    settings = settings_from(host=host, port=port, redis_url=redis_url, data=data)
    # Imported here: `keys create` needs no web framework, and answers at once.
    from dcao_server.app import create_app
    from dcao_server.asgi.runner import serve as run
    from dcao_server.asgi.tracing import traced
    from dcao_server.listeners import open_doors
    from dcao_server.logging import configure_logging
    from dcao_server.security.exposure import check_exposure
    from dcao_server.start_checks import check_start

    try:
        check_exposure(settings)
        check_start(settings)
        settings, sockets = open_doors(settings)
        application = create_app(settings)
        outer = traced(application) if settings.tracing else application
    except SettingsError as error:
        stop(str(error))
    configure_logging(settings.log_level, settings.log_format)
    raise typer.Exit(run(outer, settings, application.state.lifecycle, sockets))


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")] = False,
) -> None:
    """Remove what is past its retention (DCAO_RETENTION_DAYS, DCAO_MAX_RECORDS) from the store."""
    from dcao_server.cli.gc import gc as run

    run(dry_run=dry_run)


@app.command()
def openapi(
    output: Annotated[Path | None, typer.Option(help="File to write; standard output if absent.")] = None,
) -> None:
    """Print the OpenAPI document of this version."""
    from dcao_server.app import create_app

    text = json.dumps(create_app(_documented()).openapi(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text)


def _documented() -> Any:
    """Settings by default, whatever the environment says: the document is the same everywhere and starts nothing."""
    from dcao_server.settings import Settings

    return Settings.model_construct()


@app.command()
def settings() -> None:
    """Print every setting with its default and meaning, as the table of docs/settings.md."""
    typer.echo(settings_table(), nl=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code.

    Args:
        arguments: without the program's name; the process's own if None.
    """
    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except typer.Abort:
        return 130
    except Exception as error:
        show = getattr(error, "show", None)  # click's usage errors; anything else is a bug and keeps its trace
        if show is None:
            raise
        show()
        return int(getattr(error, "exit_code", 2))
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
