"""The keys in force: a dictionary in memory, read again from its sources every few seconds."""

import asyncio
import hmac
import time
from collections.abc import Callable, Sequence

import structlog

from dcao_server.security.key_sources import Keys, KeySource, KeySourceError
from dcao_server.security.keys import ApiKey, digest_of, id_of

_log = structlog.get_logger(__name__)
_NO_DIGEST = bytes(32)


class Keyring:
    """Looks keys up.

    A lookup is one SHA-256 and one dictionary access. When the sources were last read longer ago than `refresh`
    seconds, the request that notices reads them and the others wait for it. A source that cannot be read leaves its
    keys as they were: a Redis outage must not lock workers out.

    Args:
        sources: where the keys are.
        refresh: seconds after which a change counts, at most.
        clock: seconds, monotonic.
    """

    def __init__(
        self, sources: Sequence[KeySource], refresh: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sources = sources
        self._refresh = refresh
        self._clock = clock
        self._parts: list[Keys | None] = [None] * len(sources)
        self._keys: dict[str, ApiKey] = {}
        self._due = float("-inf")
        self._reading: asyncio.Future[None] | None = None

    @property
    def known(self) -> bool:
        """Every source was read at least once."""
        return None not in self._parts

    def due(self) -> bool:
        """The sources should be read before the next lookup."""
        return self._clock() >= self._due

    async def reload(self) -> None:
        """Read the sources; callers at the same time share one reading."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            for index, source in enumerate(self._sources):
                try:
                    keys = await source.load()
                except KeySourceError as error:
                    _log.error("api keys not read; those in force stay in force", error=str(error))
                    continue
                if keys is not None:
                    self._parts[index] = keys
            self._keys = {key_id: key for part in self._parts if part for key_id, key in part.items()}
        finally:
            self._due = self._clock() + self._refresh
            self._reading = None

    def in_force(self, key_id: str) -> ApiKey | None:
        """The record of a key that was valid, None if it no longer is."""
        record = self._keys.get(key_id)
        return None if record is None or record.expired(time.time()) else record

    def find(self, key: bytes) -> tuple[ApiKey | None, str]:
        """The record of a valid key, and why there is none: `malformed`, `unknown`, `wrong-secret` or `expired`.

        An unknown id costs the same comparison as a wrong secret; the caller must answer both alike.
        """
        digest = digest_of(key)
        key_id = id_of(key)
        record = self._keys.get(key_id) if key_id is not None else None
        matches = hmac.compare_digest(digest, record.digest if record is not None else _NO_DIGEST)
        if key_id is None:
            return None, "malformed"
        if record is None:
            return None, "unknown"
        if not matches:
            return None, "wrong-secret"
        return (None, "expired") if record.expired(time.time()) else (record, "")
