"""Work that can wait: when it gives the event loop away, and for how long at most."""

import asyncio

from dcao_server.metrics.run_pace import Pace


class Requests:
    """How many are in progress, as somebody says."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self) -> int:
        return self.count


async def test_work_goes_on_when_no_request_is_in_progress_but_those_that_stay() -> None:
    requests = Requests(3)  # the scrape and two event streams
    pace = Pace(requests, patience_seconds=60)
    await asyncio.wait_for(pace.give_way(), 5)
    requests.count = 4
    paused = asyncio.ensure_future(pace.give_way())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not paused.done()
    requests.count = 3
    await asyncio.wait_for(paused, 5)


async def test_a_stream_that_ends_makes_the_next_request_count() -> None:
    requests = Requests(2)
    pace = Pace(requests, patience_seconds=60)
    requests.count = 1
    await pace.give_way()
    requests.count = 2
    paused = asyncio.ensure_future(pace.give_way())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not paused.done()
    requests.count = 1
    await asyncio.wait_for(paused, 5)


async def test_patience_is_spent_once_for_all_pauses() -> None:
    requests = Requests(1)
    pace = Pace(requests, patience_seconds=0.02)
    requests.count = 2
    clock = asyncio.get_running_loop().time
    started = clock()
    await asyncio.wait_for(pace.give_way(), 5)
    assert clock() - started >= 0.02
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await pace.give_way()  # the load goes on, and so does the work: other callbacks had a turn or two
    counting.cancel()
    assert 1 <= turns <= 3


async def test_a_slice_that_is_not_used_up_costs_no_turn() -> None:
    pace = Pace(Requests(0), slice_seconds=60)
    turns = 0

    async def count() -> None:
        nonlocal turns
        turns += 1

    asyncio.ensure_future(count())  # noqa: RUF006  (it ends below)
    await pace.breathe()
    assert turns == 0
    await pace.give_way()
    assert turns == 1
