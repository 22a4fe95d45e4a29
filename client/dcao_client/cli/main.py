"""The `dcao` command: everything a person does by hand."""

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

import typer

from dcao_client.cli.policies import policies
from dcao_client.cli.replay import replay
from dcao_client.cli.runs import export, runs, show, watch
from dcao_client.cli.serve import serve
from dcao_client.cli.sync import sync

COMMANDS = "dcao.commands"  # entry points: commands that other parts of the distribution, or plug-ins, bring along

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
for command in (serve, runs, show, watch, export, replay, sync, policies):
    app.command()(command)


def main() -> None:
    """Runs the command line."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else None
    for entry in entry_points(group=COMMANDS):
        # Only the command that is called is imported: some bring torch, and `dcao runs` should not wait for it.
        _add(entry.name, _load(entry) if entry.name == wanted else _placeholder(entry))
    app()


def _add(name: str, command: Callable[..., None] | typer.Typer) -> None:
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _placeholder(entry: EntryPoint) -> Callable[..., None]:
    def command() -> None: ...

    command.__doc__ = f"Part of {entry.module.partition('.')[0]}; dcao {entry.name} --help tells more."
    return command


def _load(entry: EntryPoint) -> Callable[..., None] | typer.Typer:
    """The command; if its libraries are missing, one that says what to install."""
    try:
        loaded: Callable[..., None] | typer.Typer = entry.load()
    except ImportError as error:
        missing, extra = error.name, "".join(entry.extras) or "all"

        def unavailable() -> None:
            typer.echo(f"dcao {entry.name} needs the package {missing}; pip install 'dcao[{extra}]'", err=True)
            raise typer.Exit(1) from None

        return unavailable
    return loaded


if __name__ == "__main__":
    main()
