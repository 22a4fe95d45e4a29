"""Settings from the environment and the command line, and their errors in words."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from dcao_proto.variables import mistyped
from dcao_server.settings import ENV_PREFIX, SECRETS, Settings, SettingsError

Host = Annotated[str | None, typer.Option(help="Address to bind (DCAO_HOST, else 127.0.0.1).", show_default=False)]
Port = Annotated[
    int | None, typer.Option(help="TCP port (DCAO_PORT, else 8000); 0 takes a free one.", show_default=False)
]
RedisUrl = Annotated[
    str | None,
    typer.Option(help="Where the history is (DCAO_REDIS_URL); a SQLite file in DATA if absent.", show_default=False),
]
Data = Annotated[
    Path | None, typer.Option(help="Folder of the SQLite file (DCAO_DATA, else .dcao).", show_default=False)
]


def settings_from(
    *, host: str | None = None, port: int | None = None, redis_url: str | None = None, data: Path | None = None
) -> Settings:
    """The environment's settings, the command line's over them; ends the program if one does not fit."""
    for name, meant in mistyped(os.environ).items():
        print(f"dcao-controller: {name} is no setting and was ignored; {meant} is one", file=sys.stderr)
    given: dict[str, Any] = {"host": host, "port": port, "redis_url": redis_url, "data": data}
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        stop(*(in_words(details) for details in error.errors()))
    except SettingsError as error:
        stop(str(error))


def in_words(details: Any) -> str:
    """A line about a setting that does not fit: its variable, what was expected, what was got if it is no secret."""
    name = str(details["loc"][0]) if details["loc"] else ""
    expected = str(details["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if not expected.startswith("expected"):
        expected = f"expected {expected}"
    field = Settings.model_fields.get(name)
    secret = field is None or name in SECRETS or "secret" in str(field.annotation).lower()
    got = "" if secret or ", got " in expected else f", got {str(details['input'])[:80]!r}"
    return f"{ENV_PREFIX}{name.upper()}: {expected}{got}; see docs/settings.md"


def stop(*why: str) -> NoReturn:
    """Ends the program with 2, a line for each reason: it was asked for something that cannot be done."""
    for reason in why:
        print(f"dcao-controller: {reason}", file=sys.stderr)
    raise typer.Exit(2)
