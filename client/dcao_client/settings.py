"""Where the controller is and how the client behaves, from the environment (`DCAO_…`) or as arguments."""

import os
import re
from pathlib import Path, PurePath
from typing import Any, Self, get_args
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dcao_client.errors import SettingsError
from dcao_client.once import Once
from dcao_proto.run import Trust
from dcao_proto.secret_file import read_text
from dcao_proto.variables import mistyped

SWITCH = {
    "": True,
    "1": True,
    "true": True,
    "on": True,
    "yes": True,
    "0": False,
    "false": False,
    "off": False,
    "no": False,
}
ADDRESS = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}/?")
_once = Once()
VISIBLE = re.compile(r"[!-~]+")  # what may stand in a header: ASCII without spaces


class _FromEnvironment(BaseSettings):
    # Refused input is not shown: it may be a key.
    model_config = SettingsConfigDict(env_prefix="DCAO_", extra="ignore", frozen=True, hide_input_in_errors=True)

    @classmethod
    def read(cls, **given: Any) -> Self:
        """From arguments, where they are given, and the environment.

        Raises:
            SettingsError: something does not fit; one line for each, and nothing of what was given.
        """
        _say_what_is_mistyped()
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            lines = [
                f"DCAO_{'_'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}"
                for e in error.errors(include_url=False, include_input=False, include_context=False)
            ]
        raise SettingsError("; ".join(lines))


def _say_what_is_mistyped() -> None:
    """Once for each variable, in the log."""
    for name, meant in mistyped(os.environ).items():
        _once.warn(name, "%s is no setting and was ignored; %s is one", name, meant)


class HookSettings(_FromEnvironment):
    """What `attach` and every hook obey: `DCAO_ENABLED`, `DCAO_TRUST`."""

    enabled: bool = Field(
        default=True, description="`0`: no hook measures, asks or changes anything; the code stays as it is."
    )
    trust: Trust | None = Field(
        default=None, description="`watch`, `guard` or `auto`, where `attach` is not given `trust`."
    )

    @field_validator("enabled", mode="before")
    @classmethod
    def _is_a_switch(cls, value: Any) -> Any:
        text = str(value).strip().lower()
        if text not in SWITCH:
            raise ValueError("expected 1 or 0 (true or false, on or off, yes or no), got something else")
        return SWITCH[text]

    @field_validator("trust", mode="before")
    @classmethod
    def _is_a_trust(cls, value: Any) -> Any:
        text = str(value or "").strip().lower()
        if text not in ("", *get_args(Trust)):
            raise ValueError("expected watch, guard or auto, got something else")
        return text or None


class ClientSettings(_FromEnvironment):
    """Settings of a session. Every field is also an environment variable: `DCAO_URL`, `DCAO_DEADLINE`, …"""

    url: str | None = Field(default=None, description="Controller, as http(s)://host:port; none: decide in-process.")
    api_key: SecretStr | None = Field(default=None, description="API key, dcao_<id>_<secret>.")
    api_key_file: Path | None = Field(default=None, description="File that holds the key; read again on a refusal.")
    ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) of a private CA to trust besides the system's; `SSL_CERT_FILE` counts too.",
    )
    proxy: SecretStr | None = Field(
        default=None, description="HTTP proxy to go through, as http://[user:password@]host:port."
    )
    project: str = Field(default="default", description="Project the run belongs to; up to 200 characters.")
    run: str | None = Field(default=None, description="Name of the run, up to 200 characters; made up if absent.")
    deadline: float = Field(default=0.25, gt=0, le=60, description="Seconds a decision may keep training waiting.")
    journal: bool = Field(
        default=True, description="Whether decisions that no controller has seen are kept in a file, to be sent later."
    )
    journal_dir: Path = Field(default=Path(".dcao/journal"), description="Where decisions wait for the controller.")
    journal_max_mib: int = Field(
        default=256, ge=1, le=1 << 20, description="Largest journal of one run, in MiB; 256 are some 150,000 decisions."
    )

    @field_validator("api_key_file", "ca_file", "journal_dir")
    @classmethod
    def _home(cls, path: Path | None) -> Path | None:
        try:
            return None if path is None else path.expanduser()
        except RuntimeError:
            raise ValueError("expected a path, got the home of a user that there is not") from None

    @field_validator("url", mode="before")
    @classmethod
    def _has_a_scheme(cls, url: Any) -> Any:
        if not isinstance(url, str):
            return url
        url = url.strip()
        if not _is_http(url):
            # Shown only where it is plainly an address: what was put into the wrong variable may be a key.
            fix = f", for example http://{url}" if ADDRESS.fullmatch(url) else ""
            raise ValueError(f"expected http://host:port or https://host:port, got something else; add the scheme{fix}")
        return url or None

    @field_validator("proxy", mode="before")
    @classmethod
    def _is_a_proxy(cls, proxy: Any) -> Any:
        if isinstance(proxy, str):
            proxy = proxy.strip()
            if not _is_http(proxy):
                raise ValueError(
                    "expected http://[user:password@]host:port, got something else; if the password holds one of "
                    "/ ? # @ : % [ ], escape it (%2F %3F %23 %40 %3A %25 %5B %5D)"
                )
        return proxy or None

    @field_validator("api_key", mode="before")
    @classmethod
    def _is_a_key(cls, key: Any) -> Any:
        text = key.get_secret_value() if isinstance(key, SecretStr) else key
        if not isinstance(text, str):
            return key
        return clean_secret(text) or None

    @field_validator("run", mode="before")
    @classmethod
    def _is_a_name(cls, run: Any) -> Any:
        """Also a path (an output folder) and a number (of a trial), which people name runs by."""
        if isinstance(run, PurePath) or (isinstance(run, int) and not isinstance(run, bool)):
            return str(run)
        return run or None

    def read_api_key(self) -> str | None:
        """The key as it is now; a file may have been replaced since the last time.

        Raises:
            SettingsError: the file cannot be read or holds no key.
        """
        if self.api_key_file is None:
            return self.api_key.get_secret_value() if self.api_key else None
        try:
            key = clean_secret(read_text(self.api_key_file))
        except OSError as error:
            raise SettingsError(f"expected a key in DCAO_API_KEY_FILE, got {error.strerror}") from None
        except ValueError as error:
            raise SettingsError(f"DCAO_API_KEY_FILE: {error}") from None
        if not key:
            raise SettingsError("expected a key in DCAO_API_KEY_FILE, got an empty file; write the key into it")
        return key


def clean_secret(text: str) -> str:
    """A secret without the space around it.

    Raises:
        ValueError: it holds what no header can carry; the message says where, and nothing of the secret.
    """
    text = text.strip().removeprefix("\ufeff")
    if text and VISIBLE.fullmatch(text) is None:
        place = next(i for i, letter in enumerate(text) if not "!" <= letter <= "~")
        raise ValueError(
            f"expected visible ASCII characters only, got another one at place {place + 1} of {len(text)}; copy the "
            "key again, in one line"
        )
    return text


def _is_http(url: str) -> bool:
    """Whether this is nothing at all, or names a host (and a port) that can be asked."""
    try:
        parts = urlsplit(url)
        there = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        return url == "" or (url.isprintable() and bool(there) and bool(str(parts.hostname).encode("idna")))
    except ValueError:  # a bracket without its other, a port that is none, a name longer than a name may be
        return False
