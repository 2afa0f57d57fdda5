from __future__ import annotations

import asyncio
import math
import time

import pytest

from loops_async._aio import ResettableTimer, ResponsiveTimeout, spawn_shielded, wait_through_cancellation


async def test_outlasts_every_cancel_and_returns_the_first() -> None:
    done = asyncio.Event()

    async def work() -> str:
        await done.wait()
        return "done"

    async def caller() -> str:
        task = spawn_shielded(work())
        cancelled = await wait_through_cancellation(task)
        assert task.result() == "done"
        assert cancelled is not None
        raise cancelled

    waiting = asyncio.create_task(caller())
    for message in ("first", "second", "third"):
        await asyncio.sleep(0)
        waiting.cancel(message)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    done.set()
    with pytest.raises(asyncio.CancelledError, match="first"):
        await waiting


async def test_leaves_the_outcome_alone() -> None:
    async def work() -> None:
        raise ValueError("its own")

    task = spawn_shielded(work())
    assert await wait_through_cancellation(task) is None
    assert isinstance(task.exception(), ValueError)


def test_what_is_protected_survives_the_end_of_asyncio_run() -> None:
    finished: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.02)
        finished.append("inner")

    async def outer() -> None:
        task = spawn_shielded(work())
        cancelled = await wait_through_cancellation(task)
        assert not task.cancelled()
        finished.append("outer")
        assert cancelled is not None
        raise cancelled

    async def main() -> asyncio.Task[None]:
        left_behind = asyncio.create_task(outer())
        await asyncio.sleep(0.005)
        return left_behind

    assert asyncio.run(main()).cancelled()
    assert finished == ["inner", "outer"]


async def test_a_timer_that_is_brought_forward_fires_earlier() -> None:
    timer = ResettableTimer()
    loop = asyncio.get_running_loop()
    sleeping = asyncio.create_task(timer.sleep())
    await asyncio.sleep(0.01)
    assert not sleeping.done()
    timer.bring_forward(loop.time() + 60)
    timer.bring_forward(loop.time() + 0.02)
    # It never goes back.
    timer.bring_forward(loop.time() + 60)
    async with asyncio.timeout(5):
        await sleeping
    timer.bring_forward(-math.inf)
    async with asyncio.timeout(5):
        await timer.sleep()


async def test_a_sleeper_that_is_cancelled_leaves_the_timer_to_the_next_one() -> None:
    timer = ResettableTimer()
    first = asyncio.create_task(timer.sleep())
    await asyncio.sleep(0)
    first.cancel()
    second = asyncio.create_task(timer.sleep())
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.sleep(0)
    timer.bring_forward(-math.inf)
    async with asyncio.timeout(5):
        await second


async def test_a_responsive_timeout_ends_a_block_in_time() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with ResponsiveTimeout(0.1).hold():
            await asyncio.sleep(60)
    assert 0.1 <= loop.time() - began < 2


async def test_time_in_which_the_loop_was_blocked_does_not_end_a_responsive_timeout() -> None:
    timeout = ResponsiveTimeout(0.1)
    async with timeout.hold():
        for _ in range(4):
            time.sleep(0.1)  # noqa: ASYNC251 -- a training step
            await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        # What is left of the time is shared.
        async with timeout.hold():
            await asyncio.sleep(60)


async def test_a_cancellation_goes_through_a_responsive_timeout() -> None:
    async def body() -> None:
        async with ResponsiveTimeout(60).hold():
            await asyncio.sleep(60)

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
