from __future__ import annotations

import asyncio

import pytest

from loops_async._aio import spawn_shielded, wait_through_cancellation


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
