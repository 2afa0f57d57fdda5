from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from loops_async._http.limiter import LEAST_URGENT_EVERY, Priority, RequestLimiter

pytestmark = pytest.mark.quick_clock

LIST = "GET /samplers"
CREATE = "POST /samplers"


async def start(
    limiter: RequestLimiter, priority: Priority, order: list[str], name: str, endpoint: str = ""
) -> asyncio.Task[None]:
    async def work() -> None:
        await limiter.acquire(priority, endpoint)
        order.append(name)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    return task


async def cancel_all(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_limit_holds_and_the_urgent_go_first() -> None:
    limiter, order = RequestLimiter(1), list[str]()
    slot = await limiter.acquire(Priority.READ)
    tasks = [
        await start(limiter, priority, order, name)
        for priority, name in [
            (Priority.READ, "read 1"),
            (Priority.CREATE, "create"),
            (Priority.READ, "read 2"),
            (Priority.DEACTIVATION, "deactivation"),
        ]
    ]
    assert order == []
    for _ in tasks:
        slot.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == ["deactivation", "create", "read 1", "read 2"]


async def test_a_long_queue_of_deactivations_does_not_starve_the_polls() -> None:
    limiter, order = RequestLimiter(1), list[str]()
    slot = await limiter.acquire(Priority.DEACTIVATION)
    tasks = [await start(limiter, Priority.DEACTIVATION, order, "deactivation") for _ in range(40)]
    tasks.append(await start(limiter, Priority.READ, order, "poll"))
    for _ in tasks:
        slot.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order.index("poll") == LEAST_URGENT_EVERY - 1


async def test_deactivations_do_not_wait_behind_final_polls() -> None:
    limiter, order = RequestLimiter(2), list[str]()
    polls = [await start(limiter, Priority.FINAL_POLL, order, "final poll") for _ in range(5)]
    assert order == ["final poll"] * 2
    others = [
        await start(limiter, Priority.DEACTIVATION, order, "deactivation"),
        await start(limiter, Priority.FINAL_DEACTIVATION, order, "final deactivation"),
        await start(limiter, Priority.READ, order, "read"),
    ]
    await asyncio.gather(*others)
    assert order[2:] == ["deactivation", "final deactivation", "read"]
    await cancel_all(*polls)


async def test_a_pause_of_the_client_holds_back_everything_and_then_lets_the_urgent_go_first() -> None:
    limiter, order = RequestLimiter(10), list[str]()
    loop = asyncio.get_running_loop()
    began = loop.time()
    limiter.pause(0.05)
    limiter.pause(0.01)
    tasks = [
        await start(limiter, Priority.READ, order, "read", LIST),
        await start(limiter, Priority.CREATE, order, "create", CREATE),
        await start(limiter, Priority.DEACTIVATION, order, "deactivation"),
    ]
    assert 0 < limiter.pause_remaining(LIST) <= 0.05
    await asyncio.gather(*tasks)
    assert loop.time() - began >= 0.05
    assert order == ["deactivation", "create", "read"]
    assert limiter.pause_remaining() == 0


async def test_a_pause_of_one_endpoint_holds_back_no_other() -> None:
    limiter, order = RequestLimiter(10), list[str]()
    limiter.pause(60, CREATE)
    create = await start(limiter, Priority.CREATE, order, "create", CREATE)
    await start(limiter, Priority.READ, order, "read", LIST)
    await start(limiter, Priority.CREATE, order, "session", "POST /sessions")
    assert order == ["read", "session"]
    assert limiter.pause_remaining(CREATE) > 59
    assert limiter.pause_remaining(LIST) == 0
    await cancel_all(create)


async def test_final_requests_wait_for_no_pause() -> None:
    limiter = RequestLimiter(1)
    limiter.pause(60)
    limiter.pause(60, LIST)
    async with asyncio.timeout(1):
        await limiter.acquire(Priority.FINAL_POLL, LIST)
        await limiter.acquire(Priority.FINAL_DEACTIVATION, LIST)


@pytest.mark.parametrize("priority", [Priority.CREATE, Priority.FINAL_POLL])
async def test_no_more_requests_of_an_endpoint_start_within_any_second_than_the_rate_allows(priority: Priority) -> None:
    limiter, starts = RequestLimiter(100, rate=5), list[float]()
    loop = asyncio.get_running_loop()

    async def work() -> None:
        slot = await limiter.acquire(priority, CREATE)
        starts.append(loop.time())
        slot.release()

    await asyncio.gather(*(work() for _ in range(12)))
    assert len(starts) == 12
    assert all(later - earlier >= 1.0 for earlier, later in zip(starts, starts[5:], strict=False))
    # It is no slower than that either: two pauses of a second.
    assert starts[-1] - starts[0] < 2.5


async def test_what_exceeds_half_of_the_rate_is_spread_over_the_second() -> None:
    limiter, starts = RequestLimiter(100, rate=40), list[float]()
    loop = asyncio.get_running_loop()

    async def work() -> None:
        slot = await limiter.acquire(Priority.CREATE, CREATE)
        starts.append(loop.time())
        slot.release()

    await asyncio.gather(*(work() for _ in range(30)))
    assert starts[19] - starts[0] < 0.02
    # The others follow in groups, in an eighth of a second, and no more than a few times that on a busy machine.
    assert 0.1 < starts[29] - starts[19] < 0.4
    assert starts[24] - starts[21] < 0.02


async def test_each_endpoint_has_a_rate_of_its_own_and_the_data_plane_none() -> None:
    limiter, order = RequestLimiter(100, rate=2), list[str]()
    tasks = [
        await start(limiter, priority, order, name, name)
        for _ in range(5)
        for priority, name in [(Priority.READ, LIST), (Priority.CREATE, CREATE), (Priority.DATA_PLANE, "")]
    ]
    assert Counter(order) == {LIST: 2, CREATE: 2, "": 5}
    await cancel_all(*tasks)


async def test_a_rate_below_one_is_a_rate_too() -> None:
    limiter, order = RequestLimiter(100, rate=4 / 5), list[str]()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await start(limiter, Priority.READ, order, "first", LIST)
    await (await start(limiter, Priority.READ, order, "second", LIST))
    assert order == ["first", "second"]
    assert 1.25 <= loop.time() - began < 2


async def test_a_cancelled_slot_is_not_lost() -> None:
    limiter, order = RequestLimiter(1), list[str]()
    slot = await limiter.acquire(Priority.READ)
    waiting = await start(limiter, Priority.READ, order, "cancelled while waiting")
    waiting.cancel()
    granted = await start(limiter, Priority.READ, order, "cancelled when granted")
    after = await start(limiter, Priority.READ, order, "after")
    slot.release()
    # Its slot is granted, but it has not run yet.
    granted.cancel()
    await after
    assert order == ["after"]
    for task in (waiting, granted):
        with pytest.raises(asyncio.CancelledError):
            await task
    slot.release()
    await limiter.acquire(Priority.READ)


async def test_closing_lets_through_what_will_not_be_sent() -> None:
    limiter, order = RequestLimiter(1), list[str]()
    limiter.pause(60)
    waiting = await start(limiter, Priority.READ, order, "read")
    deactivation = await start(limiter, Priority.DEACTIVATION, order, "deactivation")
    limiter.close()
    await waiting
    assert order == ["read"]
    await cancel_all(deactivation)


async def test_the_limit_can_only_fall() -> None:
    limiter, order = RequestLimiter(2), list[str]()
    limiter.lower_limit(5)
    limiter.lower_limit(1)
    slot = await limiter.acquire(Priority.READ)
    waiting = await start(limiter, Priority.READ, order, "second")
    assert order == []
    slot.release()
    await waiting


async def test_the_data_plane_has_a_quarter_of_the_slots() -> None:
    limiter, order = RequestLimiter(8), list[str]()
    tasks = [await start(limiter, Priority.DATA_PLANE, order, "data plane") for _ in range(3)]
    await start(limiter, Priority.READ, order, "read")
    assert Counter(order) == {"data plane": 2, "read": 1}
    await cancel_all(*tasks)


async def test_no_timer_is_left_when_no_request_waits() -> None:
    limiter, order = RequestLimiter(1), list[str]()
    limiter.pause(60)
    waiting = await start(limiter, Priority.READ, order, "read")
    assert limiter._timer is not None
    await cancel_all(waiting)
    slot = await limiter.acquire(Priority.FINAL_POLL)
    slot.release()
    assert limiter._timer is None
