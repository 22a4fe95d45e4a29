"""Settings from the environment and the command line, and their errors in words."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from dcao_server.settings import ENV_PREFIX, Settings, SettingsError

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
    """The environment's settings, the command line's over them; ends the program with 2 if they are wrong."""
    given: dict[str, Any] = {"host": host, "port": port, "redis_url": redis_url, "data": data}
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        lines = (f"{ENV_PREFIX}{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        stop("expected settings that fit, see docs/settings.md; got\n    " + "\n    ".join(lines))
    except SettingsError as error:
        stop(str(error))


def stop(why: str) -> NoReturn:
    """Ends the program with 2: it was asked for something that cannot be done."""
    print(f"dcao-controller: {why}", file=sys.stderr)
    raise typer.Exit(2)
