"""Commands by the thousand: few at a time, and behind the decisions."""

import asyncio
from typing import Any, cast

from dcao_server.store.redis_bulk import AT_ONCE, PATIENCE_SECONDS, Bulk
from dcao_server.store.redis_lane import Lane


class Noted:
    """Takes the place of a lane and notes what it is sent."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.busy = False

    async def execute_all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        self.sizes.append(len(commands))
        return [b"OK"] * len(commands)


async def test_many_commands_are_sent_a_few_at_a_time() -> None:
    noted = Noted()
    await Bulk(None, cast(Lane, noted), None).send_all(("PING",) for _ in range(3 * AT_ONCE + 1))
    assert noted.sizes == [AT_ONCE, AT_ONCE, AT_ONCE, 1]


async def test_nothing_is_sent_while_a_decision_waits_for_redis() -> None:
    noted, decisions = Noted(), Noted()
    decisions.busy = True
    sending = asyncio.ensure_future(Bulk(None, cast(Lane, noted), cast(Lane, decisions)).send([("PING",)]))
    for _ in range(3):
        await asyncio.sleep(0)
        assert noted.sizes == []
    decisions.busy = False
    await sending
    assert noted.sizes == [1]


async def test_a_load_that_never_pauses_does_not_keep_it_waiting_for_ever() -> None:
    noted, decisions = Noted(), Noted()
    decisions.busy = True
    started = asyncio.get_running_loop().time()
    await asyncio.wait_for(Bulk(None, cast(Lane, noted), cast(Lane, decisions)).send([("PING",)]), 5)
    assert asyncio.get_running_loop().time() - started >= PATIENCE_SECONDS
    assert noted.sizes == [1]
