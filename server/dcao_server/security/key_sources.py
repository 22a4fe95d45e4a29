"""Where API keys are kept: a file of JSON lines, or a hash in Redis. Both can be read again while serving."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import structlog
from pydantic import ValidationError

from dcao_proto.secret_file import read_text
from dcao_server.security.keys import ApiKey
from dcao_server.security.own_redis import OwnRedis
from dcao_server.store.keys import PREFIX

_log = structlog.get_logger(__name__)
Keys = Mapping[str, ApiKey]
REDIS_KEY = f"{PREFIX}:keys"
"""Hash: key id → JSON record. Outside the runs' slots, and never touched by the decision script."""


class KeySourceError(Exception):
    """The keys cannot be read; the text says where and why."""


class KeySource(Protocol):
    """A place that keeps keys."""

    async def load(self) -> Keys | None:
        """All keys by id; None when nothing changed since the last call.

        Raises:
            KeySourceError: they cannot be read now.
        """


def parse_lines(text: str, where: str) -> dict[str, ApiKey]:
    """Keys by id from JSON lines; blank lines and lines that start with # do not count.

    Raises:
        KeySourceError: a line is not a key record. The line itself is not quoted: somebody may have put a key there.
    """
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = ApiKey.model_validate_json(line)
        except ValidationError as error:
            what = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'line'}: {e['msg']}" for e in error.errors())
            raise KeySourceError(
                f"expected an API key record in {where}, line {number}, got something else ({what}); make records "
                "with `dcao-controller keys create`"
            ) from None
        keys[key.id] = key
    return keys


class KeyFile:
    """Keys in a file, one JSON object a line; read again when its time, size or inode changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    async def load(self) -> Keys | None:
        """See KeySource. A `stat` costs microseconds, so there is no thread."""
        return self.load_now()

    def load_now(self) -> Keys | None:
        """The same for callers without an event loop."""
        try:
            status = self.path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen == self._seen:
                return None
            keys = parse_lines(read_text(self.path), str(self.path))
        except (OSError, ValueError) as error:
            raise KeySourceError(
                f"expected API keys in the file {self.path}, got {error}; make one with `dcao-controller keys create "
                f"--file {self.path}`, or correct DCAO_API_KEYS_FILE"
            ) from error
        self._seen = seen
        return keys

    def add(self, key: ApiKey) -> None:
        """Append a key; the file is made, readable by its owner only, where there is none."""
        with self._locked():
            text = self._text()
            parse_lines(text, str(self.path))
            self._replace(text + ("" if not text or text.endswith("\n") else "\n") + key.model_dump_json() + "\n")

    def remove(self, key_id: str) -> bool:
        """Drop a key; False when there was none of that id."""
        with self._locked():
            text = self._text()
            if key_id not in parse_lines(text, str(self.path)):
                return False
            kept = [line for line in text.splitlines() if key_id not in parse_lines(line, str(self.path))]
            self._replace("".join(f"{line}\n" for line in kept))
            return True

    def _text(self) -> str:
        try:
            return read_text(self.path) if self.path.exists() else ""
        except ValueError as error:
            raise KeySourceError(f"{self.path}: {error}") from None

    def _replace(self, text: str) -> None:
        """A reader sees the old file or the new one, never half of it."""
        fresh = self.path.with_name(self.path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two `keys create` at once must not lose one's key."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(self.path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class KeysInRedis:
    """Keys in one Redis hash, shared by all replicas."""

    def __init__(self, redis: OwnRedis) -> None:
        self._redis = redis

    async def load(self) -> Keys | None:
        """See KeySource."""
        try:
            stored: dict[bytes, bytes] = await self._redis.client.hgetall(REDIS_KEY)
        except Exception as error:  # whatever the driver raises, the keys in force stay in force
            raise KeySourceError(
                f"expected API keys in Redis ({REDIS_KEY}), got {error!r}; is Redis reachable?"
            ) from error
        keys: dict[str, ApiKey] = {}
        for name, record in stored.items():
            try:
                keys |= parse_lines(_text(record), f"Redis {REDIS_KEY}")
            except (KeySourceError, UnicodeDecodeError):
                _say(_text(name, errors="replace")[:64])
        return keys

    async def add(self, key: ApiKey) -> None:
        """Store a key."""
        await self._redis.client.hset(REDIS_KEY, key.id, key.model_dump_json())

    async def remove(self, key_id: str) -> bool:
        """Drop a key; False when there was none of that id."""
        return bool(await self._redis.client.hdel(REDIS_KEY, key_id))


def _text(value: bytes | str, errors: str = "strict") -> str:
    return value.decode(errors=errors) if isinstance(value, bytes) else value


@lru_cache(maxsize=100)
def _say(name: str) -> None:
    """Once: one record that is none must not lock out those whose keys are."""
    _log.error(
        "an API key record is not read", field=name, key=REDIS_KEY, fix="revoke it by that id, and make a new key"
    )
