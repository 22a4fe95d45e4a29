"""`dcao-controller keys`: create, list and revoke API keys, in a file or in Redis."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from dcao_server.cli.options import settings_from, stop
from dcao_server.security.audit import AuditEvent
from dcao_server.security.audit_sinks import AuditFile, AuditInRedis
from dcao_server.security.key_sources import KeyFile, Keys, KeysInRedis, KeySourceError
from dcao_server.security.keys import ApiKey, Scope, create_key
from dcao_server.security.own_redis import OwnRedis
from dcao_server.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys. A running controller notices by itself.")
DAY_SECONDS = 86_400
T = TypeVar("T")

File = Annotated[Path | None, typer.Option(help="File of keys (DCAO_API_KEYS_FILE, else api_keys.jsonl in DCAO_DATA).")]
InRedis = Annotated[bool, typer.Option("--redis", help="Keep the keys in Redis (DCAO_REDIS_URL), for all replicas.")]


@app.command()
def create(
    project: Annotated[list[str], typer.Option(help="Project that the key is for; '*' for every one. Repeatable.")],
    scope: Annotated[str, typer.Option(help="read, write (includes read) or admin (may delete runs too).")] = "write",
    days: Annotated[float | None, typer.Option(help="Days until the key no longer counts; never if absent.")] = None,
    note: Annotated[str, typer.Option(help="Whose key, what for.")] = "",
    file: File = None,
    redis: InRedis = False,
) -> None:
    """Make a key. It is printed once, alone on standard output; only its SHA-256 is kept."""
    if scope.upper() not in Scope.__members__:
        stop(f"expected --scope read, write or admin, got {scope!r}")
    if days is not None and days <= 0:
        stop(f"expected --days above 0, got {days}")
    settings = settings_from()
    try:
        key, record = create_key(
            dict.fromkeys(project, Scope[scope.upper()]),
            expires_in=None if days is None else days * DAY_SECONDS,
            note=note,
        )
    except ValueError as error:
        stop(f"expected projects named by letters, digits, '.', '_' and '-', or '*'; got {project} ({error})")
    where = _apply(settings, file, redis, lambda f: f.add(record), lambda r: r.add(record))
    _audit(settings, redis, "created", record.id)
    typer.echo(key)
    typer.echo(
        f"{scope} on {', '.join(project)}; its hash is in {where}. Workers send it: export DCAO_API_KEY=… "
        "(or DCAO_API_KEY_FILE).",
        err=True,
    )
    if not redis and settings.api_keys_file is None:
        typer.echo(f"Start the controller with DCAO_API_KEYS_FILE={where}.", err=True)


@app.command("list")
def list_keys(file: File = None, redis: InRedis = False) -> None:
    """List keys: id, what each may do, dates, note. Secrets are not kept, so none can be shown."""
    found: dict[str, Keys] = {}

    def from_file(source: KeyFile) -> None:
        found["keys"] = source.load_now() or {}

    async def from_redis(source: KeysInRedis) -> None:
        found["keys"] = await source.load() or {}

    where = _apply(settings_from(), file, redis, from_file, from_redis)
    if not found["keys"]:
        typer.echo(f"no keys in {where}; make one with: dcao-controller keys create --project NAME", err=True)
        return
    table = Table("id", "may", "created", "expires", "note")
    for key in sorted(found["keys"].values(), key=lambda key: key.created):
        may = ", ".join(f"{scope.name.lower()} {project}" for project, scope in key.grants.items())
        table.add_row(key.id, may, _date(key.created), _expiry(key), key.note)
    Console().print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The part of a key between its underscores.")],
    file: File = None,
    redis: InRedis = False,
) -> None:
    """Revoke a key. Running controllers refuse it within DCAO_API_KEYS_REFRESH_SECONDS."""
    settings = settings_from()
    gone: list[bool] = []

    async def from_redis(source: KeysInRedis) -> None:
        gone.append(await source.remove(key_id))

    where = _apply(settings, file, redis, lambda f: gone.append(f.remove(key_id)), from_redis)
    if not gone[0]:
        stop(f"expected the id of a key in {where}, got {key_id!r}; `dcao-controller keys list` has them")
    _audit(settings, redis, "revoked", key_id)
    typer.echo(f"revoked {key_id} in {where}", err=True)


def _apply(
    settings: Settings,
    file: Path | None,
    in_redis: bool,
    with_file: Callable[[KeyFile], None],
    with_redis: Callable[[KeysInRedis], Awaitable[None]],
) -> str:
    """Runs one of the two on the place of the keys; returns its name."""
    if in_redis and file is not None:
        stop("expected --file or --redis, got both")
    try:
        if in_redis:
            if settings.redis_url is None:
                stop("expected DCAO_REDIS_URL because of --redis, got none; set it")
            asyncio.run(_in_redis(settings, lambda redis: with_redis(KeysInRedis(redis))))
            return "Redis"
        path = file.expanduser() if file is not None else None
        path = path or settings.api_keys_file or settings.data / "api_keys.jsonl"
        with_file(KeyFile(path))
        return str(path)
    except (KeySourceError, OSError) as error:
        stop(str(error))


async def _in_redis(settings: Settings, action: Callable[[OwnRedis], Awaitable[T]]) -> T:
    redis = OwnRedis(settings)
    try:
        return await action(redis)
    except KeySourceError:
        raise
    except Exception as error:
        raise KeySourceError(f"expected Redis to keep the keys, got {error!r}; is DCAO_REDIS_URL right?") from error
    finally:
        await redis.close()


def _audit(settings: Settings, in_redis: bool, reason: str, key_id: str) -> None:
    event = AuditEvent(event="key", reason=reason, key=key_id)

    async def write(redis: OwnRedis) -> None:
        await AuditInRedis(redis, settings.audit_max).write([event])

    if in_redis:
        asyncio.run(_in_redis(settings, write))
    else:
        asyncio.run(AuditFile(settings.data).write([event]))


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _expiry(key: ApiKey) -> str:
    if key.expires is None:
        return "never"
    return f"{_date(key.expires)}{' (expired)' if key.expired(time.time()) else ''}"
