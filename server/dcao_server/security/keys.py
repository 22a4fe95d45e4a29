"""API keys: `dcao_<id>_<secret>`, of which only the SHA-256 is kept.

The id names the key in lists, logs and the audit trail; the secret has 192 random bits, so its hash needs no salt and
no slow function: there is nothing to guess from.
"""

import hashlib
import secrets
import time
from enum import IntEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator

from dcao_proto.message import NAME_PATTERN

PREFIX = "dcao"
EVERY_PROJECT = "*"
_SECRET_BYTES = 24


class Scope(IntEnum):
    """What a key may do in a project; each includes the one before."""

    READ = 1
    """Runs, history, exports, replays."""
    WRITE = 2
    """Create and end runs, observe, backfill."""
    ADMIN = 3
    """Delete runs."""


class ApiKey(BaseModel):
    """One key as it is stored: a line of the key file, a field of the Redis hash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z0-9]{4,32}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Of the whole key, in hexadecimal.")]
    grants: dict[Annotated[str, Field(pattern=rf"^\*$|{NAME_PATTERN}")], Scope] = Field(
        min_length=1, description="Project, or * for every one, and what the key may do there."
    )
    created: float = Field(description="Seconds since the epoch.")
    expires: float | None = Field(default=None, description="Seconds since the epoch; never if absent.")
    note: str = Field(default="", max_length=200, description="For people: whose key, what for.")

    @field_validator("grants", mode="before")
    @classmethod
    def _by_name(cls, grants: object) -> object:
        """`write` rather than 2, so that a person can read and write the file."""
        if not isinstance(grants, dict):
            return grants
        return {
            p: Scope[s.upper()] if isinstance(s, str) and s.upper() in Scope.__members__ else s
            for p, s in grants.items()
        }

    @field_serializer("grants")
    def _to_names(self, grants: dict[str, Scope]) -> dict[str, str]:
        return {project: scope.name.lower() for project, scope in grants.items()}

    @property
    def digest(self) -> bytes:
        """What `digest_of` gives for the right key."""
        return bytes.fromhex(self.sha256)

    def expired(self, now: float) -> bool:
        """Whether the key no longer counts at `now`, seconds since the epoch."""
        return self.expires is not None and now >= self.expires

    def scope_in(self, project: str | None) -> int:
        """The key's scope in a project, 0 for none; with None, its highest scope anywhere."""
        if project is None:
            return max(self.grants.values())
        return max(self.grants.get(project, 0), self.grants.get(EVERY_PROJECT, 0))


def digest_of(key: bytes) -> bytes:
    """SHA-256 of a whole key."""
    return hashlib.sha256(key).digest()


def create_key(
    grants: dict[str, Scope], *, expires_in: float | None = None, note: str = "", now: float | None = None
) -> tuple[str, ApiKey]:
    """A new key and what is to be stored of it.

    Args:
        grants: project (or `*`) → scope.
        expires_in: seconds until it no longer counts; never if None.
        note: for people.
        now: seconds since the epoch; the clock's if None.

    Returns:
        The key, which nobody can get again, and its record.
    """
    created = time.time() if now is None else now
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}_{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
    record = ApiKey(
        id=key_id,
        sha256=digest_of(key.encode()).hex(),
        grants=grants,
        created=round(created, 3),
        expires=None if expires_in is None else round(created + expires_in, 3),
        note=note,
    )
    return key, record


def id_of(key: bytes) -> str | None:
    """The id inside a key, or None when it does not look like one. Says nothing about whether it is valid."""
    parts = key.split(b"_")
    if len(parts) != 3 or parts[0] != PREFIX.encode() or not parts[1].isalnum() or len(parts[1]) > 32:
        return None
    return parts[1].decode("ascii")
