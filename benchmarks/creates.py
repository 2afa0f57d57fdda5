"""How long does a burst of creates take?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ._harness import Stopwatch, control, in_fresh_process, median, ratio
from ._report import Report, Target, number
from .contestants import KEY

CONCURRENCY = 100
"""Requests at once: the default of this library, of aiohttp and of httpx."""
DELAY = 0.005
"""Seconds that the server takes for one."""
MODEL = "Qwen/Qwen3-8B"

Create = Callable[[], Awaitable[str]]


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Create]:
    """This library, on its defaults."""
    from loops_async import LoopsClient

    async with LoopsClient(KEY, base_url=url, rate_limit=None) as client:

        async def create() -> str:
            return (await client.samplers.create(session_id="s1", base_model=MODEL)).id

        yield create


@asynccontextmanager
async def baseten(url: str, places: int) -> AsyncIterator[Create]:
    """Baseten's own client."""
    from baseten.client import AsyncManagementClient
    from baseten.client import managementapi as api

    async with AsyncManagementClient(api_key=KEY, base_url_override=url) as client:
        semaphore = asyncio.Semaphore(places)

        async def create() -> str:
            request = api.CreateLoopsSamplerRequest(session_id="s1", base_model=MODEL)
            async with semaphore:
                return (await client.api.post_loops_samplers(request=request)).sampler.id

        yield create


@asynccontextmanager
async def bare(url: str, reuse: bool) -> AsyncIterator[Create]:
    """aiohttp without anything. A create must have a connection of its own, which costs this much."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=CONCURRENCY, force_close=not reuse)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(url, connector=connector, headers=headers) as session:

        async def create() -> str:
            document = {"session_id": "s1", "base_model": MODEL}
            async with session.post("/v1/loops/samplers", json=document) as response:
                response.raise_for_status()
                return str(json.loads(await response.read())["sampler"]["id"])

        yield create


CONTESTANTS: dict[str, Callable[[str], Any]] = {
    "loops_async": ours,
    "baseten, 4 at a time": lambda url: baseten(url, 4),
    "baseten, 16 at a time": lambda url: baseten(url, 16),
    "baseten, 100 at a time": lambda url: baseten(url, 100),
    "aiohttp": lambda url: bare(url, True),
    "aiohttp, a connection each": lambda url: bare(url, False),
}


async def burst(url: str, contestant: str, count: int) -> dict[str, float]:
    """Create many samplers at once; return how long it took and how many failed."""
    control(url, "/_reset", {"create_delay": DELAY})
    async with CONTESTANTS[contestant](url) as create:
        with Stopwatch() as spent:
            made = await asyncio.gather(*(create() for _ in range(count)), return_exceptions=True)
    ids = {each for each in made if isinstance(each, str)}
    return {"wall": spent.wall, "cpu": spent.cpu, "errors": count - len(ids)}


def measure(url: str, turns: int, quick: bool) -> Report:
    """Compare bursts of creates."""
    count = 200 if quick else 1000
    results: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(turns):
        for name in CONTESTANTS:
            results[name].append(in_fresh_process(burst, url=url, contestant=name, count=count))
    walls = {name: [result["wall"] for result in each] for name, each in results.items()}
    report = Report(
        f"creates: a burst of {count:,}, each of which takes the server {1000 * DELAY:g} ms",
        ("who", "wall, s", "client CPU, s", "wall ratio", "errors"),
    )
    for name, each in results.items():
        cpu = median(result["cpu"] for result in each)
        share = f"{number(ratio(walls[name], walls['loops_async']))}x"
        report.rows.append((name, median(walls[name]), cpu, share, int(max(result["errors"] for result in each))))
    fairest = min((name for name in walls if name.startswith("baseten")), key=lambda name: median(walls[name]))
    report.remarks.append(
        f"Medians of {turns} turns, from new connections. loops_async and aiohttp: at most {CONCURRENCY} at once."
    )
    report.targets += [
        Target(f"creates, wall next to {fairest}", ratio(walls["loops_async"], walls[fairest]), 0.2),
        Target(
            "creates, wall next to aiohttp with a connection each",
            ratio(walls["loops_async"], walls["aiohttp, a connection each"]),
            1.1,
        ),
        Target("creates, errors", max(result["errors"] for result in results["loops_async"]), 0),
    ]
    return report
