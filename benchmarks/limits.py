"""How close to the published rate limit does a big launch come, and what is refused on the way?"""

from __future__ import annotations

from typing import Any

from ._harness import Stopwatch, control, in_fresh_process, median, ratio, running_server
from ._report import Report, Target
from .contestants import KEY
from .limited_server import COLD_START, LIMIT


async def launched(url: str, count: int, rate_limit: float | None) -> dict[str, Any]:
    """Bring *count* samplers up, and take them down."""
    from loops_async import LoopsClient, launch

    failed = 0
    with Stopwatch() as spent:
        async with (
            LoopsClient(KEY, base_url=url, rate_limit=rate_limit) as client,
            launch(client, ["m"] * count) as fleet,
        ):
            async for member in fleet:
                failed += member.error is not None
    return {"wall": spent.wall, "cpu": spent.cpu, "failed": failed}


def measure(quick: bool) -> Report:
    """Launch beside a limit, and without one."""
    report = Report(
        f"limits: launch and teardown against {LIMIT} requests a second for each endpoint, 0.15 s of latency",
        ("samplers", "seconds", "the limit allows", "refused, %", "failed", "billed", "CPU, s", "CPU, no limit"),
    )
    for count in (300,) if quick else (1000, 4000):
        limited, free = [], []
        for _ in range(1 if quick else 3):
            with running_server("benchmarks.limited_server") as url:
                control(url, "/control", {"limit": LIMIT})
                limited.append({**in_fresh_process(launched, url=url, count=count, rate_limit=100.0)})
                limited[-1]["stats"] = control(url, "/stats")
                control(url, "/control", {"limit": None})
                free.append(in_fresh_process(launched, url=url, count=count, rate_limit=None))
        # The creates, the cold start of the last sampler, and the deactivations.
        allowed = 2 * (count / LIMIT) + COLD_START
        refused = [
            100 * sum(each["stats"]["refused"].values()) / sum(each["stats"]["requests"].values()) for each in limited
        ]
        cpu, without = [each["cpu"] for each in limited], [each["cpu"] for each in free]
        wall = median(each["wall"] for each in limited)
        failed = max(each["failed"] for each in limited)
        billed = max(each["stats"]["billed"] for each in limited)
        report.rows.append((count, wall, allowed, median(refused), failed, billed, median(cpu), median(without)))
        report.targets += [
            Target(f"limits, {count} samplers, time next to what the limit allows", wall / allowed, 1.1),
            Target(f"limits, {count} samplers, refused", max(refused), 2.0, "%"),
            Target(f"limits, {count} samplers, members lost", failed, 0),
            Target(f"limits, {count} samplers, billed afterwards", billed, 0),
            Target(f"limits, {count} samplers, CPU next to the same without a limit", ratio(cpu, without), 1.5),
        ]
    return report
