"""Where the controller is and how the client behaves, from the environment (`DCAO_…`) or as arguments."""

import re
from pathlib import Path
from typing import Any, Self, get_args
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dcao_client.errors import SettingsError
from dcao_proto.run import Trust

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
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            lines = [
                f"DCAO_{'_'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}"
                for e in error.errors(include_url=False, include_input=False, include_context=False)
            ]
        raise SettingsError("; ".join(lines))


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

    @field_validator("url", mode="before")
    @classmethod
    def _has_a_scheme(cls, url: Any) -> Any:
        if not isinstance(url, str):
            return url
        url = url.strip()
        if not url:
            return None
        parts = urlsplit(url) if url.isprintable() else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not _port_fits(parts):
            fix = "" if "://" in url or "@" in url else f", for example http://{url[:100]}"
            raise ValueError(f"expected http://host:port or https://host:port, got something else; add the scheme{fix}")
        return url

    @field_validator("proxy", mode="before")
    @classmethod
    def _is_a_proxy(cls, proxy: Any) -> Any:
        if isinstance(proxy, str):
            proxy = proxy.strip()
            parts = urlsplit(proxy)
            if proxy and (parts.scheme not in ("http", "https") or not parts.hostname or not _port_fits(parts)):
                raise ValueError("expected http://host:port, got something else")
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
    def _empty_is_absent(cls, run: Any) -> Any:
        return run or None

    def read_api_key(self) -> str | None:
        """The key as it is now; a file may have been replaced since the last time.

        Raises:
            SettingsError: the file cannot be read or holds no key.
        """
        if self.api_key_file is None:
            return self.api_key.get_secret_value() if self.api_key else None
        try:
            return clean_secret(self.api_key_file.read_text(encoding="utf-8-sig")) or None
        except OSError as error:
            raise SettingsError(f"expected a key in DCAO_API_KEY_FILE, got {error.strerror}") from None
        except ValueError as error:  # of ours, or not UTF-8: that one would quote what it read
            ours = "expected a text file" if isinstance(error, UnicodeError) else str(error)
            raise SettingsError(f"DCAO_API_KEY_FILE: {ours}") from None


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


def _port_fits(parts: Any) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False
