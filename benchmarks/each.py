"""How much GPU time does a job save that deactivates each sampler when its work has ended?

The same job in three ways: launch 20 members, do some work with each, leave the block. Cold starts and works are spread
as in a real run, and long ones do not come together. What is measured is the billed time: from LOADING_MODEL, with
which Baseten's metering begins, until the deactivation arrives, by the emulator's clock times its speed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from ._harness import in_fresh_process
from ._report import Report, Target
from .contestants import KEY

MEMBERS = 20
SPEED = 200.0
"""What takes ten minutes takes three seconds here."""
SCHEDULED_S = 60.0
"""Seconds from the create to LOADING_MODEL, which are not billed."""
LOADING_S = (60.0, 600.0)
"""Shortest and longest time in LOADING_MODEL, in seconds."""
WORK_S = (30.0, 600.0)
"""Shortest and longest work, in seconds."""


def spread(limits: tuple[float, float], seed: int) -> list[float]:
    """Return a time for each member, evenly spread on a logarithmic scale, in a random order."""
    shortest, longest = limits
    times = [shortest * (longest / shortest) ** (index / (MEMBERS - 1)) for index in range(MEMBERS)]
    random.Random(seed).shuffle(times)
    return times


async def with_each(client: Any, specs: list[str], work: Callable[[Any], Awaitable[None]]) -> None:
    """Deactivate each sampler when its work has ended."""
    from loops_async import PollPolicy, launch

    async with launch(client, specs, policy=PollPolicy(initial=0.01, maximum=0.02)) as fleet:
        async for outcome in fleet.each(work):
            if outcome.error is not None:
                raise outcome.error


async def with_gather(client: Any, specs: list[str], work: Callable[[Any], Awaitable[None]]) -> None:
    """Wait for all samplers, and then for all works."""
    from loops_async import PollPolicy, launch

    async with launch(client, specs, policy=PollPolicy(initial=0.01, maximum=0.02)) as fleet:
        await asyncio.gather(*map(work, await fleet.active()))


async def with_task_group(client: Any, specs: list[str], work: Callable[[Any], Awaitable[None]]) -> None:
    """Start each work as its sampler comes up, and deactivate all samplers at the end."""
    from loops_async import PollPolicy, launch

    async with (
        launch(client, specs, policy=PollPolicy(initial=0.01, maximum=0.02)) as fleet,
        asyncio.TaskGroup() as group,
    ):
        async for member in fleet:
            if member.error is not None:
                raise member.error
            group.create_task(_as_coroutine(work(member.sampler)))


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


CONTESTANTS = {
    "fleet.each(work)": with_each,
    "a TaskGroup as members come up": with_task_group,
    "active() and gather()": with_gather,
}


async def billed(contestant: str, seed: int) -> dict[str, float]:
    """Do the job; return the billed GPU seconds, and the seconds that the job took."""
    from loops_async import LoopsClient, Sampler
    from loops_async.emulator import Emulator, Stage

    models = [f"model-{index}" for index in range(MEMBERS)]
    works = dict(zip(models, spread(WORK_S, seed + 1), strict=True))
    lifecycles = {
        model: (Stage("BUILDING", SCHEDULED_S), Stage("LOADING_MODEL", seconds), Stage("ACTIVE"))
        for model, seconds in zip(models, spread(LOADING_S, seed), strict=True)
    }

    async def work(sampler: Sampler) -> None:
        await asyncio.sleep(works[sampler.base_model] / SPEED)

    loop = asyncio.get_running_loop()
    async with (
        Emulator(api_key=KEY, speed=SPEED, lifecycles=lifecycles) as emulator,
        LoopsClient(KEY, base_url=emulator.url, rate_limit=None) as client,
    ):
        began = loop.time()
        await CONTESTANTS[contestant](client, models, work)
        took = loop.time() - began
    assert not emulator.billed  # noqa: S101
    ends = {
        request.path.split("/")[-2]: request.at for request in emulator.requests("POST") if "deactivate" in request.path
    }
    begins = {request.json["base_model"]: request.at for request in emulator.requests("POST", "/v1/loops/samplers")}
    total = sum((ends[sampler.id] - begins[sampler.base_model]) * SPEED - SCHEDULED_S for sampler in emulator.samplers)
    return {"billed": total, "took": took * SPEED}


def measure(turns: int) -> Report:
    """Compare the three ways."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for turn in range(turns):
        for name in CONTESTANTS:
            found[name].append(in_fresh_process(billed, contestant=name, seed=turn))
    report = Report(
        f"each: {MEMBERS} members, {LOADING_S[0]:g} to {LOADING_S[1]:g} s of loading, {WORK_S[0]:g} to {WORK_S[1]:g} s "
        "of work",
        ("how", "billed GPU seconds", "next to active() and gather()", "the job takes, s"),
    )
    sums = {name: sum(each["billed"] for each in results) / turns for name, results in found.items()}
    theirs = sums["active() and gather()"]
    for name, results in found.items():
        took = sum(each["took"] for each in results) / turns
        report.rows.append((name, f"{sums[name]:,.0f}", f"{sums[name] / theirs:.2f}x", f"{took:,.0f}"))
    report.remarks.append(
        f"Seconds of the emulator, which runs {SPEED:g} times as fast; billed from LOADING_MODEL to the deactivation. "
        f"Means of {turns} orders."
    )
    ratio = sums["fleet.each(work)"] / theirs
    report.targets.append(Target("each, billed GPU time next to active() and gather()", ratio, 0.7))
    return report
