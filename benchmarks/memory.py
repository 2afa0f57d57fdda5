"""How much heap does a wait take, its task included?"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ._harness import control, in_fresh_process
from ._report import Report, Target
from .contestants import KEY

SIZES = (1000, 10000)


async def of_waits(url: str, size: int) -> float:
    """Return the bytes per wait, after the first poll was served."""
    from loops_async import LoopsClient, PollPolicy, wait_until_active

    control(url, "/_reset", {"count": size})
    policy = PollPolicy(initial=60, maximum=60)
    async with LoopsClient(KEY, base_url=url, rate_limit=None) as client:
        samplers = await client.samplers.list()
        # Connection, caches and lazy imports are not the waits' own.
        await _glance([wait_until_active(client, sampler, policy=policy) for sampler in samplers[:20]])
        before = control(url, "/_counts").get("list", 0)

        async def served() -> None:
            while control(url, "/_counts").get("list", 0) == before:  # noqa: ASYNC110 -- in another process
                await asyncio.sleep(0.1)
            # tracemalloc slows down the reading of the list, which must be over, and its body gone.
            await asyncio.sleep(1.0 + size / 2000)

        return await _grown(lambda index: wait_until_active(client, samplers[index], policy=policy), size, served)


async def of_futures(size: int) -> float:
    """Return the bytes per task that awaits a future."""
    loop = asyncio.get_running_loop()

    async def one(_: int) -> None:
        await loop.create_future()

    async def ready() -> None:
        await asyncio.sleep(0.1)

    return await _grown(one, size, ready)


async def _glance(waits: list[Coroutine[Any, Any, Any]]) -> None:
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.sleep(0.5)
    await _end(tasks)


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _grown(
    wait: Callable[[int], Coroutine[Any, Any, Any]], size: int, ready: Callable[[], Awaitable[None]]
) -> float:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.create_task(wait(index)) for index in range(size)]
    await ready()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    if any(task.done() for task in tasks):
        raise RuntimeError("a wait ended before its memory was measured")
    await _end(tasks)
    return grown / size


def measure(url: str, quick: bool) -> Report:
    """Measure the heap per wait."""
    report = Report(
        "memory: heap per wait, its task included", ("waits", "loops_async, bytes", "task and future, bytes")
    )
    for size in SIZES[:1] if quick else SIZES:
        mine = in_fresh_process(of_waits, url=url, size=size)
        bare = in_fresh_process(of_futures, size=size)
        report.rows.append((f"{size:,}", mine, bare))
        report.targets.append(Target(f"heap per wait of {size:,}", mine / 1024, 1.5, "KiB"))
    report.remarks.append("tracemalloc, after the first poll was served; the samplers themselves are not counted.")
    return report
