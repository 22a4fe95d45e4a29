"""Every setting of the controller: its environment variable is `DCAO_` and the field's name in capitals.

A secret can be named by file instead: `DCAO_REDIS_PASSWORD_FILE=/run/secrets/redis_password` reads the file and strips
the line end, so that a container engine's secrets need no shell. docs/settings.md is generated from this file.
"""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dcao_proto.secret_file import read_secret
from dcao_server.redis_url import split_redis_url

ENV_PREFIX = "DCAO_"
SECRETS = ("redis_url", "redis_password")
"""Fields that `DCAO_<NAME>_FILE` may give instead of `DCAO_<NAME>`."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
KIB, MIB = 1024, 1024 * 1024


class SettingsError(ValueError):
    """The environment asks for something that cannot be done; the text says what and how to correct it."""


class Settings(BaseSettings):
    """The controller's settings; frozen, so that what was read at the start stays true.

    Raises:
        pydantic.ValidationError: a value is out of its range.
        SettingsError: a secret is given twice, or its file cannot be read.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,  # it may be a secret
    )

    # Where it listens
    host: str = Field(
        default="127.0.0.1",
        description="Address to bind; `::` is every address of both IPv6 and IPv4. Another one than loopback needs API "
        "keys: the controller refuses to start without.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 takes a free one and logs it.")
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="A port of its own, on the same address, that serves `/metrics`, `/metrics/runs` and the health "
        "paths, without a key, and nothing else: keep it on an inner network. Absent: there is none.",
    )
    forwarded_allow_ips: str = Field(
        default="127.0.0.1",
        description="Addresses or networks of proxies whose `X-Forwarded-For` is believed, separated by commas; `*` "
        "for all.",
    )
    allowed_hosts: str = Field(
        default="",
        description="Further names that requests may have in `Host`, separated by commas, besides those of loopback. "
        "Given or without API keys, a request with another name is refused: a web page could have sent it.",
    )
    keep_alive_seconds: int = Field(
        default=75,
        ge=1,
        le=3600,
        description="Seconds an idle connection is kept. Above the 60 s at which clients and proxies recycle theirs, "
        "so that none meets a closing socket.",
    )
    max_connections: int = Field(
        default=4096, ge=1, le=1_000_000, description="Open connections; further ones get a 503 and are closed."
    )

    # Where the history is
    redis_url: SecretStr | None = Field(
        default=None,
        description="`redis://`, `rediss://` (TLS), `unix://`, `redis+cluster://`, `rediss+cluster://` or "
        "`redis+sentinel://host:port,host:port/service`; `/3` or `?db=3` names a database. "
        "Absent: the history lies in one SQLite file under `data`.",
    )
    redis_username: str | None = Field(default=None, description="ACL user, if not in the URL.")
    redis_password: SecretStr | None = Field(default=None, description="Password, if not in the URL.")
    redis_ca_file: Path | None = Field(default=None, description="Certificate authority (PEM) of a `rediss://` server.")
    redis_cert_file: Path | None = Field(default=None, description="Client certificate (PEM) for mutual TLS.")
    redis_key_file: Path | None = Field(default=None, description="Key (PEM) of the client certificate.")
    redis_timeout_seconds: float = Field(
        default=0.2,
        gt=0,
        le=60,
        description="Seconds to connect to Redis, and to wait for one answer. Below the client's deadline of 0.25 s.",
    )
    redis_max_connections: int = Field(default=64, ge=1, le=10_000, description="Size of the connection pool.")
    data: Path = Field(
        default=Path(".dcao"), description="Folder of the SQLite file and of the audit file, when there is no Redis."
    )

    # How long it is kept
    retention_days: float = Field(
        default=90, gt=0, le=36_500, description="Days after its last change that a run is kept."
    )
    max_records: int = Field(
        default=1_000_000, ge=100, description="Newest decisions kept for one attempt of a run, about."
    )
    stale_factor: float = Field(
        default=3,
        ge=1,
        le=1000,
        description="A run is stale when nothing was observed for this many of its usual intervals between probes.",
    )
    stale_floor_seconds: float = Field(
        default=60, ge=0, description="No run is called stale before this many seconds of silence."
    )

    # Who may ask
    api_keys_file: Path | None = Field(
        default=None,
        description="File of API keys (`dcao-controller keys create` writes it). Read again when it changes.",
    )
    api_keys_in_redis: bool = Field(
        default=False,
        description="API keys are kept in Redis, shared by all replicas.",
    )
    api_keys_refresh_seconds: float = Field(
        default=5, gt=0, le=3600, description="Seconds after which a created or revoked key counts, at most."
    )
    rate_limit: float = Field(
        default=2000,
        ge=0,
        description="Requests per second that one API key may make of one replica, on average; 0: no limit.",
    )
    rate_burst: int = Field(default=4000, ge=1, description="Requests that one API key may make at once.")
    protect_metrics: bool = Field(
        default=True,
        description="Where API keys are configured, `/metrics` and `/metrics/runs` need one with `read` on `*`, for "
        "they name every project's runs. `DCAO_METRICS_PORT` is the way without a key.",
    )
    audit_max: int = Field(
        default=10_000, ge=100, description="Newest entries kept of the audit stream in Redis, about."
    )

    # What a request may cost
    body_limit: int = Field(
        default=128 * KIB,
        ge=KIB,
        description="Bytes of a request's body. An observation is about 1 KiB; a state token may have 64 KiB.",
    )
    backfill_body_limit: int = Field(
        default=16 * MIB, ge=KIB, description="Bytes of the body of `decisions:backfill`, up to 1,000 entries."
    )
    header_limit: int = Field(default=16 * KIB, ge=KIB, description="Bytes of a request's line and headers together.")
    header_seconds: float = Field(
        default=10, gt=0, le=600, description="Seconds from the first byte of a request to the end of its headers."
    )
    body_seconds: float = Field(default=10, gt=0, le=600, description="Seconds in which the whole body must arrive.")

    # What Prometheus is told of runs
    run_metrics_max: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Live runs with metrics at `/metrics/runs`, those that observed last; further ones are counted.",
    )
    run_metrics_window_seconds: float = Field(
        default=3600,
        gt=0,
        description="A run that has not ended has metrics for this many seconds after its last observation.",
    )

    # How it stops
    drain_seconds: float = Field(
        default=5,
        ge=0,
        le=600,
        description="After SIGTERM: seconds for which `/readyz` says no while requests are still served, so that "
        "proxies notice.",
    )
    shutdown_seconds: int = Field(
        default=10, ge=0, le=600, description="Seconds that requests in flight then have to finish."
    )

    # What it says
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="`json`: one object a line, for machines; `console`: for people; `auto`: for people in a terminal, "
        "else for machines.",
    )
    access_log: Literal["off", "errors", "all"] = Field(
        default="errors",
        description="Which answers are logged: none, those from 400 on, or all. Decisions are counted in the metrics.",
    )
    tracing: bool = Field(
        default=False,
        description="OpenTelemetry spans; needs `pip install 'dcao[otel]'` and is set up by the `OTEL_…` variables.",
    )

    @field_validator("host")
    @classmethod
    def _host_alone(cls, value: str) -> str:
        host = value.strip().removeprefix("[").removesuffix("]")
        if not host or any(sign in host for sign in "/@ "):
            raise ValueError("expected an address or a host name alone (0.0.0.0, ::, localhost)")
        return host

    @field_validator("redis_url")
    @classmethod
    def _redis_url_that_is_used_whole(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            split_redis_url(value.get_secret_value())
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for part in filter(None, map(str.strip, value.split(","))):
            if part != "*":
                try:
                    ip_network(part, strict=False)
                except ValueError:
                    raise ValueError("expected addresses or networks separated by commas, or *") from None
        return value

    @field_validator("data", "api_keys_file", "redis_ca_file", "redis_cert_file", "redis_key_file")
    @classmethod
    def _home(cls, value: Path | None) -> Path | None:
        try:
            return None if value is None else value.expanduser()
        except RuntimeError:
            raise ValueError("expected a path, got the home of a user that there is not") from None

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the controller."""
        return self.host in LOOPBACK

    @property
    def keys_wanted(self) -> bool:
        """API keys are configured, so every request to the API needs one."""
        return self.api_keys_file is not None or self.api_keys_in_redis

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then secrets named by file."""
        return init_settings, env_settings, SecretFiles(settings_cls)


class SecretFiles(PydanticBaseSettingsSource):
    """Reads `DCAO_<NAME>_FILE` for the fields in `SECRETS`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The secret's text, or None when no file is named."""
        variable = f"{ENV_PREFIX}{field_name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if field_name not in SECRETS or not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(f"expected either {variable} or {variable}_FILE, got both; unset one")
        try:
            return read_secret(Path(path).expanduser()), field_name, False
        except OSError as error:
            raise SettingsError(
                f"expected a readable file in {variable}_FILE, got {path!r} ({error.strerror}); correct or unset it"
            ) from error
        except ValueError as error:
            raise SettingsError(f"{variable}_FILE ({path!r}): {error}") from None

    def __call__(self) -> dict[str, Any]:
        """All secrets that are named by file."""
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


def settings_table() -> str:
    """docs/settings.md's table: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variable = f"`{ENV_PREFIX}{name.upper()}`"
        if name in SECRETS:
            variable += f", `{ENV_PREFIX}{name.upper()}_FILE`"
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| {variable} | {default} | {field.description} |")
    return "\n".join(rows) + "\n"
