"""What waits for samplers: this library, and what one would write without it.

Each contestant runs in a process of its own and imports only what it needs. It is given ids, asks every `interval`
seconds, and writes down when it learned that each sampler is ACTIVE.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import GenericAlias
from typing import Any

from ._harness import Stopwatch, control

KEY = "a-key"
TICK = 0.002
"""Seconds between two checks for stalls of the event loop."""

Waiting = Callable[[dict[str, float]], Awaitable[None]]
"""Wait for all samplers, and note for each the moment at which it was known to be ACTIVE."""


async def run_waits(
    contestant: str, url: str, plan: dict[str, Any], interval: float, stalls: bool = False
) -> dict[str, Any]:
    """Let one contestant wait for the samplers of a plan; return what it cost.

    Checking for stalls costs CPU itself, so it needs a run of its own.
    """
    ids = control(url, "/_reset", plan)["ids"]
    async with CONTESTANTS[contestant](url, ids, interval) as wait:
        before = control(url, "/_counts")
        active_at = control(url, "/_start")["active_at"]
        seen: dict[str, float] = {}
        gaps: list[float] = []
        with Stopwatch() as spent:
            watching = asyncio.create_task(_look_for_stalls(gaps)) if stalls else None
            await wait(seen)
        if watching is not None:
            watching.cancel()
        after = control(url, "/_counts")
    counts = {route: count - before.get(route, 0) for route, count in after.items() if not route.startswith("_")}
    return {
        "cpu": spent.cpu,
        "wall": spent.wall,
        "requests": sum(count for route, count in counts.items() if not route.endswith("_bytes")),
        "bytes": sum(count for route, count in counts.items() if route.endswith("_bytes")),
        "completed": len(seen),
        "latencies": [seen[name] - moment for name, moment in zip(ids, active_at, strict=True) if name in seen],
        "stall": max(gaps, default=0.0),
    }


async def _look_for_stalls(gaps: list[float]) -> None:
    # gather() starts all waits in one turn of the event loop; the time after that turn is the wait itself.
    for _ in range(3):
        await asyncio.sleep(0)
    clock, cpu = time.perf_counter(), time.process_time()
    while True:
        await asyncio.sleep(TICK)
        clock_now, cpu_now = time.perf_counter(), time.process_time()
        # Where another process had the core, the clock has gone on, but no work of ours was what took so long.
        gaps.append(min(clock_now - clock - TICK, cpu_now - cpu))
        clock, cpu = clock_now, cpu_now


@asynccontextmanager
async def ours(url: str, ids: list[str], interval: float) -> AsyncIterator[Waiting]:
    """This library, its policy set to the interval and otherwise on defaults."""
    from loops_async import LoopsClient, PollPolicy, wait_until_active

    async with LoopsClient(KEY, base_url=url, rate_limit=None) as client:
        # As samplers.create() returns them: a caller that has just created a sampler has its description.
        samplers = {sampler.id: sampler for sampler in await client.samplers.list()}
        policy = PollPolicy(initial=interval, factor=1, maximum=interval)

        async def wait(seen: dict[str, float]) -> None:
            async def one(name: str) -> None:
                await wait_until_active(client, samplers[name], policy=policy)
                seen[name] = time.monotonic()

            await asyncio.gather(*(one(name) for name in ids))

        yield wait


@asynccontextmanager
async def baseten(url: str, ids: list[str], interval: float) -> AsyncIterator[Waiting]:
    """Baseten's own client, gather and a fixed sleep. Four requests at a time is where its pool costs least."""
    from baseten.client import AsyncManagementClient

    async with AsyncManagementClient(api_key=KEY, base_url_override=url) as client:
        places = asyncio.Semaphore(4)

        async def wait(seen: dict[str, float]) -> None:
            async def one(name: str) -> None:
                while True:
                    async with places:
                        answer = await client.api.get_loops_samplers_sampler_id(sampler_id=name)
                    if answer.sampler.status.name == "ACTIVE":
                        break
                    await asyncio.sleep(interval)
                seen[name] = time.monotonic()

            await asyncio.gather(*(one(name) for name in ids))

        yield wait


@asynccontextmanager
async def plain_aiohttp(url: str, ids: list[str], interval: float) -> AsyncIterator[Waiting]:
    """aiohttp, and one loop per sampler."""
    import aiohttp

    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {KEY}"}) as session:

        async def wait(seen: dict[str, float]) -> None:
            async def one(name: str) -> None:
                while True:
                    async with session.get(f"/v1/loops/samplers/{name}") as response:
                        response.raise_for_status()
                        document = await response.json()
                    if document["sampler"]["status"]["name"] == "ACTIVE":
                        break
                    await asyncio.sleep(interval)
                seen[name] = time.monotonic()

            await asyncio.gather(*(one(name) for name in ids))

        yield wait


@asynccontextmanager
async def tenacity_loops(url: str, ids: list[str], interval: float) -> AsyncIterator[Waiting]:
    """aiohttp, and one tenacity loop per sampler."""
    import aiohttp
    from tenacity import AsyncRetrying, retry_if_result, wait_fixed

    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {KEY}"}) as session:

        async def wait(seen: dict[str, float]) -> None:
            async def status(name: str) -> str:
                async with session.get(f"/v1/loops/samplers/{name}") as response:
                    response.raise_for_status()
                    return str((await response.json())["sampler"]["status"]["name"])

            async def one(name: str) -> None:
                polling = AsyncRetrying(
                    wait=wait_fixed(interval), retry=retry_if_result(lambda status: status != "ACTIVE")
                )
                await polling(status, name)
                seen[name] = time.monotonic()

            await asyncio.gather(*(one(name) for name in ids))

        yield wait


@asynccontextmanager
async def bare_list(url: str, ids: list[str], interval: float) -> AsyncIterator[Waiting]:
    """The least work that is possible: one loop that lists, scans and compares; a single sampler cannot be awaited."""
    import aiohttp
    import msgspec

    decode = msgspec.json.Decoder(_rows(msgspec)).decode

    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {KEY}"}) as session:

        async def wait(seen: dict[str, float]) -> None:
            known = dict.fromkeys(ids, "")
            while True:
                async with session.get("/v1/loops/samplers") as response:
                    response.raise_for_status()
                    body = await response.read()
                for row in decode(body).samplers:
                    status = row.status.name
                    if known.get(row.id, status) != status:
                        known[row.id] = status
                        if status == "ACTIVE":
                            seen[row.id] = time.monotonic()
                if len(seen) == len(known):
                    break
                await asyncio.sleep(interval)

        yield wait


@asynccontextmanager
async def bare_futures(url: str, ids: list[str], interval: float) -> AsyncIterator[Waiting]:
    """The bare list loop, and for each sampler a task that awaits a future."""
    async with bare_list(url, ids, interval) as poll:

        async def wait(seen: dict[str, float]) -> None:
            loop = asyncio.get_running_loop()
            futures = {name: loop.create_future() for name in ids}

            class Found(dict[str, float]):
                def __setitem__(self, name: str, moment: float) -> None:
                    super().__setitem__(name, moment)
                    futures[name].set_result(None)

            async def one(name: str) -> None:
                await futures[name]
                seen[name] = time.monotonic()

            await asyncio.gather(poll(Found()), *(one(name) for name in ids))

        yield wait


def _rows(msgspec: Any) -> Any:
    status = msgspec.defstruct("Status", [("name", str)], gc=False)
    row: Any = msgspec.defstruct("Row", [("id", str), ("status", status)], gc=False)
    return msgspec.defstruct("Rows", [("samplers", GenericAlias(list, row))])


CONTESTANTS = {
    "loops_async": ours,
    "baseten": baseten,
    "aiohttp": plain_aiohttp,
    "tenacity": tenacity_loops,
    "bare list": bare_list,
    "bare list + futures": bare_futures,
}
