"""What does one poll of one wait cost, next to a bare GET that is decoded?"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ._harness import Stopwatch, control, in_fresh_process, median, ratio
from ._report import Report, Target
from .contestants import KEY

INTERVAL = 0.005


async def alternate(url: str, blocks: int, seconds: float) -> dict[str, list[float]]:
    """Poll by turns, within one process; give the CPU seconds of each poll, by block."""
    import aiohttp
    import msgspec

    from loops_async import LoopsClient, PollPolicy, wait_until_active

    # The same size of an answer for both, and no end before the block's.
    (name,) = control(url, "/_reset", {"count": 1})["ids"]
    policy = PollPolicy(initial=INTERVAL, factor=1, maximum=INTERVAL, multiples={})
    costs: dict[str, list[float]] = {"loops_async": [], "aiohttp": []}
    async with (
        LoopsClient(KEY, base_url=url, rate_limit=None) as client,
        aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {KEY}"}) as session,
    ):
        sampler = await client.samplers.get(name)

        async def bare() -> None:
            while True:
                async with session.get(f"/v1/loops/samplers/{name}") as response:
                    response.raise_for_status()
                    document: Any = msgspec.json.decode(await response.read())
                if document["sampler"]["status"]["name"] == "ACTIVE":
                    return
                await asyncio.sleep(INTERVAL)

        async def ours() -> None:
            await wait_until_active(client, sampler, policy=policy)

        for block in range(blocks + 1):
            for contestant, work in (("loops_async", ours), ("aiohttp", bare)):
                before = control(url, "/_counts")["get"] if block or contestant == "aiohttp" else 1
                with Stopwatch() as spent, contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds if block else 0.3):
                        await work()
                polls = control(url, "/_counts")["get"] - before
                if block:  # the first one opens connections and fills caches
                    costs[contestant].append(spent.cpu / polls)
    return costs


def measure(url: str, quick: bool) -> Report:
    """Compare the CPU of one poll."""
    costs = in_fresh_process(alternate, url=url, blocks=4 if quick else 10, seconds=1.5)
    share = ratio(costs["loops_async"], costs["aiohttp"])
    report = Report(
        f"one wait: client CPU of one poll, {1000 * INTERVAL:g} ms apart", ("who", "CPU per poll, µs", "ratio")
    )
    report.rows.append(("loops_async", 1e6 * median(costs["loops_async"]), 1.0))
    report.rows.append(("aiohttp GET + msgspec", 1e6 * median(costs["aiohttp"]), f"{1 / share:.2f}x"))
    report.remarks.append(f"Medians of {len(costs['aiohttp'])} blocks that alternate in one process.")
    report.targets.append(Target("one wait, CPU per poll next to a bare GET", share, 1.3))
    return report
