"""What does a launch of many leave billed when it is cancelled, and what does it cost when it is not?"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

from ._harness import Stopwatch, in_fresh_process, median, ratio
from ._report import Report, Target, number
from .contestants import KEY
from .emulator import running_emulator

MODEL = "Qwen/Qwen3-8B"
SOME = 40
"""Number of samplers at which the launch is cancelled: 32 creates are answered by then, and the next 32 in flight."""
DELAY = 0.1
"""Seconds that the control plane takes for a create, before and after it has made the sampler."""


async def with_launch(url: str, count: int, until_active: bool) -> None:
    """Launch with `launch()`."""
    from loops_async import LoopsClient, PollPolicy, launch

    policy = PollPolicy(initial=0.1, factor=1.0, maximum=0.1, multiples={})
    async with (
        LoopsClient(KEY, base_url=url, rate_limit=None) as client,
        launch(client, [MODEL] * count, policy=policy) as fleet,
    ):
        await fleet.active()
        if not until_active:
            await asyncio.sleep(60)


async def by_hand(url: str, count: int, until_active: bool) -> None:
    """Do the same by hand with the client of this library, with care: a list of what was made, and a `finally`."""
    from loops_async import LoopsClient, PollPolicy, wait_until_active

    policy = PollPolicy(initial=0.1, factor=1.0, maximum=0.1, multiples={})
    async with LoopsClient(KEY, base_url=url, rate_limit=None) as client:
        session = await client.sessions.create()
        made = []
        slots = asyncio.Semaphore(32)

        async def one() -> None:
            async with slots:
                sampler = await client.samplers.create(session_id=session.id, base_model=MODEL)
            made.append(sampler.id)
            await wait_until_active(client, sampler, policy=policy)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(one())
            if not until_active:
                await asyncio.sleep(60)
        finally:
            await asyncio.shield(asyncio.gather(*map(client.samplers.deactivate, made)))


async def with_baseten(url: str, count: int, until_active: bool) -> None:
    """Gather creates of Baseten's own client, and deactivate what they returned."""
    from baseten.client import AsyncManagementClient
    from baseten.client import managementapi as api

    async with AsyncManagementClient(api_key=KEY, base_url_override=url) as client:
        session = (await client.api.post_loops_sessions()).session.id
        slots = asyncio.Semaphore(32)
        made = []

        async def one() -> None:
            async with slots:
                request = api.CreateLoopsSamplerRequest(session_id=session, base_model=MODEL)
                made.append((await client.api.post_loops_samplers(request=request)).sampler.id)

        try:
            await asyncio.gather(*(one() for _ in range(count)))
            await asyncio.sleep(60)
        finally:
            await asyncio.gather(*(client.api.post_loops_samplers_deactivate(sampler_id=each) for each in made))


CONTESTANTS: dict[str, Callable[[str, int, bool], Awaitable[None]]] = {
    "loops_async, launch()": with_launch,
    "loops_async, by hand": by_hand,
    "baseten, gather()": with_baseten,
}


def _ask(url: str, method: str, path: str, document: object = None) -> Any:
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"{url}{path}", body, method=method)  # noqa: S310 -- our own emulator
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null")


async def cancelled(url: str, contestant: str, count: int) -> dict[str, int]:
    """Cancel a launch in the middle of its creates; return how many samplers it made, and how many it left billed."""
    fault = {"method": "POST", "route": "/v1/loops/samplers", "delay": DELAY, "delay_after": DELAY, "times": None}
    _ask(url, "POST", "/_emulator/faults", fault)
    task = asyncio.ensure_future(CONTESTANTS[contestant](url, count, False))
    while (await asyncio.to_thread(_ask, url, "GET", "/_emulator"))["samplers"]["total"] < SOME:  # noqa: ASYNC110 -- in another process
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    # What is still in flight may be processed all the same.
    await asyncio.sleep(3 * DELAY)
    _ask(url, "DELETE", "/_emulator/faults")
    after = _ask(url, "GET", "/_emulator")
    return {
        "made": after["samplers"]["total"],
        "left": after["samplers"]["billed"],
    }


async def completed(url: str, contestant: str, count: int) -> dict[str, float]:
    """Bring a launch up, and take it down."""
    with Stopwatch() as spent:
        await CONTESTANTS[contestant](url, count, True)
    return {"wall": spent.wall, "cpu": spent.cpu}


def measure(turns: int, quick: bool) -> Report:
    """Compare launches."""
    count, size = (100, 100) if quick else (200, 500)
    left_by: dict[str, list[dict[str, int]]] = {name: [] for name in CONTESTANTS}
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in list(CONTESTANTS)[:2]}
    for _ in range(turns):
        for name in CONTESTANTS:
            with running_emulator("--speed", "100") as (url, _, _):
                left_by[name].append(in_fresh_process(cancelled, url=url, contestant=name, count=count))
        for name, spent in costs.items():
            with running_emulator("--speed", "100") as (url, _, _):
                spent.append(in_fresh_process(completed, url=url, contestant=name, count=size))
    report = Report(
        f"launches: {count} samplers, cancelled in the middle of the creates; {size}, brought up and deactivated",
        ("how", "made until the cancellation", "left billed", "client CPU, s", "CPU ratio"),
    )
    cpu = {name: [cost["cpu"] for cost in each] for name, each in costs.items()}
    ours, hand = list(CONTESTANTS)[:2]
    for name, each in left_by.items():
        cost = (median(cpu[name]), f"{number(ratio(cpu[name], cpu[hand]))}x") if name in cpu else ("", "")
        made, left = (median(result[key] for result in each) for key in ("made", "left"))
        report.rows.append((name, int(made), int(left), *cost))
    report.targets += [
        Target("launches, left billed by a cancellation", max(result["left"] for result in left_by[ours]), 0),
        Target("launches, CPU next to the same by hand", ratio(cpu[ours], cpu[hand]), 1.5),
    ]
    return report
