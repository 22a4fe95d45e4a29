"""Which commands there are, which extra brings what each needs, and how one ends."""

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points, requires, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from dcao_client.cli.output import CommandError, errors, speak_any_encoding

NAME = re.compile(r"\s*([A-Za-z0-9._-]+)(?:\[([^]]*)\])?")
PLUG_INS = "dcao.commands"  # entry points: commands that other parts of the distribution, or packages, bring along
OURS = {
    "serve": "dcao_client.cli.serve:serve [server]",
    "runs": "dcao_client.cli.runs:runs [client]",
    "show": "dcao_client.cli.show:show [client]",
    "watch": "dcao_client.cli.show:watch [client]",
    "export": "dcao_client.cli.export:export [client]",
    "replay": "dcao_client.cli.replay:replay [client]",
    "sync": "dcao_client.cli.sync:sync [client]",
    "policies": "dcao_client.cli.policies:policies",
}


def entries() -> dict[str, EntryPoint]:
    """Every command by name, ours first."""
    ours = {name: EntryPoint(name, value, PLUG_INS) for name, value in OURS.items()}
    return ours | {entry.name: entry for entry in entry_points(group=PLUG_INS) if entry.name not in ours}


class Commands(TyperGroup):
    """Commands that are imported when they are called, or listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(entries())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; one that says what to install where a package of its extra is missing."""
        entry = entries().get(cmd_name)
        if entry is None:
            return None
        missing = next((name for extra in entry.extras for name in packages(extra) if not installed(name)), None)
        return _made(entry) if missing is None else _unavailable(entry, missing)


def packages(extra: str) -> set[str]:
    """The distributions that an extra of ours brings, those of the extras in it included; none if it is not ours."""
    found: set[str] = set()
    for line in requires("dcao") or ():
        requirement, _, marker = line.partition(";")
        if marker.strip() in (f'extra == "{extra}"', f"extra == '{extra}'"):
            name, inner = NAME.match(requirement).groups()  # type: ignore[union-attr]
            found |= {p for one in inner.split(",") for p in packages(one)} if name == "dcao" else {name}
    return found


def installed(name: str) -> bool:
    """Whether the distribution is there."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _made(entry: EntryPoint) -> Any:
    loaded: Callable[..., Any] | typer.Typer = entry.load()
    made = loaded if isinstance(loaded, typer.Typer) else _alone(entry.name, loaded)
    command = get_command(made)
    command.name = entry.name
    return command


def _alone(name: str, function: Callable[..., Any], **options: Any) -> typer.Typer:
    made = typer.Typer(add_completion=False)
    made.command(name, **options)(function)
    return made


def _unavailable(entry: EntryPoint, missing: str) -> Any:
    what = needs(entry, missing)

    def say(_context: typer.Context) -> None:
        raise CommandError(what)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    return get_command(_alone(entry.name, say, help=f"Not installed: {what}.", context_settings=anything))


def needs(entry: EntryPoint, missing: str) -> str:
    """What to install for a command of which a package is missing."""
    return f"dcao {entry.name} needs the package {missing}; pip install 'dcao[{''.join(entry.extras) or 'all'}]'"


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"dcao {version('dcao')}")
        raise typer.Exit


@app.callback()
def dcao(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    """Curvature-aware control of training runs: a controller, its runs, its laws."""


def run() -> int:
    """Runs what the command line asks for; the exit code."""
    speak_any_encoding()
    try:
        app()
    except CommandError as error:
        errors().print(str(error))
        return error.code
    except ModuleNotFoundError as error:
        if "pip install" not in str(error):  # nothing of ours: what is missing is not known to be in an extra
            raise
        errors().print(str(error))
        return 1
    return 0
