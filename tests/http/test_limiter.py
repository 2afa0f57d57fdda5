from __future__ import annotations

import asyncio

import pytest

from loops_async._http.limiter import Governor, Priority


async def start(governor: Governor, priority: Priority, order: list[str], name: str) -> asyncio.Task[None]:
    async def work() -> None:
        await governor.acquire(priority)
        order.append(name)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    return task


async def test_the_limit_holds_and_the_urgent_go_first() -> None:
    governor, order = Governor(1), list[str]()
    await governor.acquire(Priority.READ)
    tasks = [
        await start(governor, priority, order, name)
        for priority, name in [
            (Priority.READ, "read 1"),
            (Priority.CREATE, "create"),
            (Priority.READ, "read 2"),
            (Priority.TEARDOWN, "teardown"),
        ]
    ]
    assert order == []
    for _ in tasks:
        governor.release(Priority.READ)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == ["teardown", "create", "read 1", "read 2"]


async def test_a_pause_holds_back_everything_and_then_lets_the_urgent_first() -> None:
    governor, order = Governor(10), list[str]()
    loop = asyncio.get_running_loop()
    began = loop.time()
    governor.hold(0.05)
    governor.hold(0.01)
    tasks = [
        await start(governor, Priority.READ, order, "read"),
        await start(governor, Priority.CREATE, order, "create"),
        await start(governor, Priority.TEARDOWN, order, "teardown"),
    ]
    assert 0 < governor.held() <= 0.05
    await asyncio.gather(*tasks)
    assert loop.time() - began >= 0.05
    assert order == ["teardown", "create", "read"]
    assert governor.held() == 0


async def test_a_last_look_does_not_wait_for_the_end_of_a_pause() -> None:
    governor = Governor(1)
    governor.hold(60)
    async with asyncio.timeout(1):
        await governor.acquire(Priority.LAST_LOOK)
    governor.release(Priority.READ)
    governor.close()


async def test_a_cancelled_place_is_not_lost() -> None:
    governor, order = Governor(1), list[str]()
    await governor.acquire(Priority.READ)
    waiting = await start(governor, Priority.READ, order, "cancelled while waiting")
    waiting.cancel()
    given = await start(governor, Priority.READ, order, "cancelled when given")
    after = await start(governor, Priority.READ, order, "after")
    governor.release(Priority.READ)
    # Its place is given, but it has not run yet.
    given.cancel()
    await after
    assert order == ["after"]
    for task in (waiting, given):
        with pytest.raises(asyncio.CancelledError):
            await task
    governor.release(Priority.READ)
    await governor.acquire(Priority.READ)


async def test_closing_ends_a_pause() -> None:
    governor, order = Governor(1), list[str]()
    governor.hold(60)
    waiting = await start(governor, Priority.READ, order, "read")
    governor.close()
    await waiting
    assert order == ["read"]


async def test_the_limit_can_only_fall() -> None:
    governor, order = Governor(2), list[str]()
    governor.lower_limit(5)
    governor.lower_limit(1)
    await governor.acquire(Priority.READ)
    waiting = await start(governor, Priority.READ, order, "second")
    assert order == []
    governor.release(Priority.READ)
    await waiting


async def test_last_looks_are_bounded_too_and_wakes_have_a_part_of_the_places() -> None:
    governor, order = Governor(4), list[str]()
    looks = [await start(governor, Priority.LAST_LOOK, order, "look") for _ in range(6)]
    wakes = [await start(governor, Priority.WAKE, order, "wake") for _ in range(3)]
    reads = [await start(governor, Priority.READ, order, "read") for _ in range(3)]
    assert order.count("look") == 4
    # The places are free, yet last looks queue before all others.
    for _ in range(6):
        governor.release(Priority.LAST_LOOK)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order.count("look") == 6
    assert order.count("read") == 3
    assert order.count("wake") == 1
    for task in (*looks, *wakes, *reads):
        task.cancel()
    await asyncio.gather(*looks, *wakes, *reads, return_exceptions=True)
