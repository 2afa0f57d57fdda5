"""What does `client.samplers.get()` cost, next to a bare GET that is decoded?"""

from __future__ import annotations

import json

from ._harness import Stopwatch, control, in_fresh_process, median, ratio
from ._report import Report, Target
from .contestants import KEY

BLOCK = 250


async def alternate(url: str, blocks: int) -> dict[str, list[float]]:
    """Get one sampler again and again, by turns; give the CPU seconds of each call, by block."""
    import aiohttp

    from loops_async import LoopsClient

    (name,) = control(url, "/_reset", {"count": 1})["ids"]
    costs: dict[str, list[float]] = {"loops_async": [], "aiohttp": []}
    async with (
        LoopsClient(KEY, base_url=url, rate_limit=None) as client,
        aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {KEY}"}) as session,
    ):

        async def ours() -> None:
            for _ in range(BLOCK):
                await client.samplers.get(name)

        async def bare() -> None:
            for _ in range(BLOCK):
                async with session.get(f"/v1/loops/samplers/{name}") as response:
                    response.raise_for_status()
                    json.loads(await response.read())

        for block in range(blocks + 1):
            for contestant, work in (("loops_async", ours), ("aiohttp", bare)):
                with Stopwatch() as spent:
                    await work()
                if block:  # the first one opens connections and fills caches
                    costs[contestant].append(spent.cpu / BLOCK)
    return costs


def measure(url: str, quick: bool) -> Report:
    """Compare the CPU of one call."""
    costs = in_fresh_process(alternate, url=url, blocks=8 if quick else 20)
    share = ratio(costs["loops_async"], costs["aiohttp"])
    report = Report("get: client CPU of one `client.samplers.get(id)`", ("who", "CPU per call, µs", "ratio"))
    report.rows.append(("loops_async", 1e6 * median(costs["loops_async"]), 1.0))
    report.rows.append(("aiohttp GET + json", 1e6 * median(costs["aiohttp"]), f"{1 / share:.2f}x"))
    blocks = len(costs["aiohttp"])
    report.remarks.append(
        f"{blocks * BLOCK:,} calls each, one after the other; medians of {blocks} blocks that alternate in one "
        "process. Retries are armed and not needed."
    )
    report.targets.append(Target("get, CPU per call next to a bare GET", share, 1.15))
    return report
