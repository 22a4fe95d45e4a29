"""Is this Redis set up to keep what it is given? Looked at once, when it first answers; said in the log."""

import asyncio
from typing import Any

import structlog

_log = structlog.get_logger("dcao.store")
RETRY_SECONDS = 5.0


async def warn_of_loss(client: Any) -> None:
    """Warns of settings under which history is lost without a word; tries until Redis answers."""
    while True:
        try:
            found = {**await client.info("memory"), **await client.info("persistence")}
        except Exception:  # noqa: BLE001  (whatever is wrong, the requests say so)
            await asyncio.sleep(RETRY_SECONDS)
            continue
        for text in losses(found):
            _log.warning("the store may lose history", reason=text)
        return


def losses(info: dict[str, Any]) -> list[str]:
    """What in INFO of Redis (of one node; of a cluster's, by node) means that records can vanish."""
    nodes = [part for part in info.values() if isinstance(part, dict)] or [info]
    texts = []
    policies = {str(node["maxmemory_policy"]) for node in nodes if "maxmemory_policy" in node}
    evicting = sorted(policies - {"noeviction"})
    if evicting:
        texts.append(
            f"maxmemory-policy is {', '.join(evicting)}: when its memory is full, Redis throws runs away; "
            "set `maxmemory-policy noeviction`"
        )
    if any(not int(node.get("aof_enabled", 1)) for node in nodes):
        texts.append(
            "the append-only file is off: a restart of Redis loses what is newer than its snapshot; set appendonly yes"
        )
    return texts
