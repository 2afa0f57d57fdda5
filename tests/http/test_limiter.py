from __future__ import annotations

import asyncio

import pytest

from loops_async._http.limiter import Priority, RequestLimiter


async def start(limiter: RequestLimiter, priority: Priority, order: list[str], name: str) -> asyncio.Task[None]:
    async def work() -> None:
        await limiter.acquire(priority)
        order.append(name)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    return task


async def test_the_limit_holds_and_the_urgent_go_first() -> None:
    limiter, order = RequestLimiter(1), list[str]()
    await limiter.acquire(Priority.READ)
    tasks = [
        await start(limiter, priority, order, name)
        for priority, name in [
            (Priority.READ, "read 1"),
            (Priority.CREATE, "create"),
            (Priority.READ, "read 2"),
            (Priority.TEARDOWN, "teardown"),
        ]
    ]
    assert order == []
    for _ in tasks:
        limiter.release(Priority.READ)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == ["teardown", "create", "read 1", "read 2"]


async def test_a_pause_holds_back_everything_and_then_lets_the_urgent_first() -> None:
    limiter, order = RequestLimiter(10), list[str]()
    loop = asyncio.get_running_loop()
    began = loop.time()
    limiter.hold(0.05)
    limiter.hold(0.01)
    tasks = [
        await start(limiter, Priority.READ, order, "read"),
        await start(limiter, Priority.CREATE, order, "create"),
        await start(limiter, Priority.TEARDOWN, order, "teardown"),
    ]
    assert 0 < limiter.held() <= 0.05
    await asyncio.gather(*tasks)
    assert loop.time() - began >= 0.05
    assert order == ["teardown", "create", "read"]
    assert limiter.held() == 0


async def test_a_last_look_does_not_wait_for_the_end_of_a_pause() -> None:
    limiter = RequestLimiter(1)
    limiter.hold(60)
    async with asyncio.timeout(1):
        await limiter.acquire(Priority.FINAL)
    limiter.release(Priority.READ)
    limiter.close()


async def test_a_cancelled_place_is_not_lost() -> None:
    limiter, order = RequestLimiter(1), list[str]()
    await limiter.acquire(Priority.READ)
    waiting = await start(limiter, Priority.READ, order, "cancelled while waiting")
    waiting.cancel()
    given = await start(limiter, Priority.READ, order, "cancelled when given")
    after = await start(limiter, Priority.READ, order, "after")
    limiter.release(Priority.READ)
    # Its place is given, but it has not run yet.
    given.cancel()
    await after
    assert order == ["after"]
    for task in (waiting, given):
        with pytest.raises(asyncio.CancelledError):
            await task
    limiter.release(Priority.READ)
    await limiter.acquire(Priority.READ)


async def test_closing_ends_a_pause() -> None:
    limiter, order = RequestLimiter(1), list[str]()
    limiter.hold(60)
    waiting = await start(limiter, Priority.READ, order, "read")
    limiter.close()
    await waiting
    assert order == ["read"]


async def test_the_limit_can_only_fall() -> None:
    limiter, order = RequestLimiter(2), list[str]()
    limiter.lower_limit(5)
    limiter.lower_limit(1)
    await limiter.acquire(Priority.READ)
    waiting = await start(limiter, Priority.READ, order, "second")
    assert order == []
    limiter.release(Priority.READ)
    await waiting


async def test_last_looks_are_bounded_too_and_wakes_have_a_part_of_the_places() -> None:
    limiter, order = RequestLimiter(4), list[str]()
    looks = [await start(limiter, Priority.FINAL, order, "look") for _ in range(6)]
    wakes = [await start(limiter, Priority.WAKE, order, "wake") for _ in range(3)]
    reads = [await start(limiter, Priority.READ, order, "read") for _ in range(3)]
    assert order.count("look") == 4
    # The places are free, yet last looks queue before all others.
    for _ in range(6):
        limiter.release(Priority.FINAL)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order.count("look") == 6
    assert order.count("read") == 3
    assert order.count("wake") == 1
    for task in (*looks, *wakes, *reads):
        task.cancel()
    await asyncio.gather(*looks, *wakes, *reads, return_exceptions=True)
