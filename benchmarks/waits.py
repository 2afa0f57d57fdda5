"""What do N waits cost, and how late do they learn that a sampler is up?"""

from __future__ import annotations

from typing import Any

from . import contestants
from ._harness import in_fresh_process, median, percentile, ratio
from ._report import Report, Target, number

INTERVAL = 1.0
DEAD = 200
"""Samplers of the account that are shut down; lists hold them, too."""
PEERS = ("baseten", "aiohttp", "tenacity")
MANY = 1000
"""From here on it is measured in several turns, and for stalls."""
PEERS_UP_TO = 1000
"""Largest number of samplers that can be polled one by one within the interval."""


def measure(url: str, sizes: list[int], turns: int) -> Report:
    """Let all contestants wait for each number of samplers."""
    report = Report(
        f"waits: N samplers are awaited, everybody asks every {INTERVAL:g} s",
        (
            "N",
            "who",
            "completed",
            "requests",
            "MB",
            "client CPU, s",
            "CPU ratio",
            "found late by, s: p50",
            "p99",
            "wall, s",
            "largest stall, ms",
        ),
    )
    for size in sizes:
        names = [name for name in contestants.CONTESTANTS if size <= PEERS_UP_TO or name not in PEERS]
        plans = [{"count": size, "dead": DEAD, "seed": turn} for turn in range(turns if size >= MANY else 1)]
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for plan in plans:
            for name in names:
                results[name].append(_run(url, name, plan))
        for name in names:
            stall = "" if size < MANY or name in PEERS else 1000 * _stall(url, name, plans)
            report.rows.append(_row(size, name, results, stall))
        if size > PEERS_UP_TO:
            report.rows.append((f"{size:,}", ", ".join(PEERS), "not run", *[""] * 8))
        _judge(report, size, results)
    report.remarks.append(
        f"Medians of {turns} turns (one below {MANY:,} samplers); ratios to loops_async, within a turn. "
        f"The server's list also holds {DEAD} dead samplers. "
        "CPU is that of the client's process, from the start of the waits to the end of the last. "
        "Not run: one request per sampler and interval is more than a core can do. "
        "bare list: one loop that lists, scans and compares, with nothing to await; with futures: and for each sampler "
        "a task that awaits a future. Stalls are measured in runs of their own, after the turn of the event loop in "
        "which gather() starts all waits; what other processes took of the core does not count."
    )
    return report


def _run(url: str, name: str, plan: dict[str, Any], *, stalls: bool = False) -> dict[str, Any]:
    result: dict[str, Any] = in_fresh_process(
        contestants.run_waits, contestant=name, url=url, plan=plan, interval=INTERVAL, stalls=stalls
    )
    return result


def _stall(url: str, name: str, plans: list[dict[str, Any]]) -> float:
    return median(float(_run(url, name, plan, stalls=True)["stall"]) for plan in plans)


def _late(results: list[dict[str, Any]], part: float) -> float:
    return median(percentile(result["latencies"], part) for result in results)


def _cpu(results: list[dict[str, Any]]) -> list[float]:
    return [float(result["cpu"]) for result in results]


def _row(size: int, name: str, results: dict[str, list[dict[str, Any]]], stall: object) -> tuple[object, ...]:
    mine = results[name]

    def middle(key: str) -> float:
        return median(float(result[key]) for result in mine)

    return (
        f"{size:,}",
        name,
        f"{min(result['completed'] for result in mine):,}",
        f"{middle('requests'):,.0f}",
        middle("bytes") / 1e6,
        middle("cpu"),
        f"{number(ratio(_cpu(mine), _cpu(results['loops_async'])))}x",
        _late(mine, 0.5),
        _late(mine, 0.99),
        middle("wall"),
        stall,
    )


def _judge(report: Report, size: int, results: dict[str, list[dict[str, Any]]]) -> None:
    ours = results["loops_async"]
    missing = max(size - result["completed"] for result in ours)
    report.targets.append(Target(f"{size:,} waits that did not complete", missing, 0))
    if size == 1000:
        for peer, limit in (("baseten", 1 / 50), ("aiohttp", 1 / 20)):
            share = ratio(_cpu(ours), _cpu(results[peer]))
            report.targets.append(Target(f"{size:,} waits, client CPU next to {peer}", share, limit))
        report.targets.append(Target(f"{size:,} waits, requests", median(result["requests"] for result in ours), 20))
    if size >= 5000:
        for peer in ("bare list", "bare list + futures"):
            share = ratio(_cpu(ours), _cpu(results[peer]))
            report.targets.append(Target(f"{size:,} waits, client CPU next to {peer}", share, 1.3))
        stall = next(row[-1] for row in report.rows if row[0] == f"{size:,}" and row[1] == "loops_async")
        assert isinstance(stall, float)  # noqa: S101
        report.targets.append(Target(f"{size:,} waits, largest stall", stall, 20.0, "ms"))
    if size == 5000:
        late = _late(ours, 0.99) / INTERVAL
        report.targets.append(Target(f"{size:,} waits, found late by, p99", late, 1.15, "intervals"))
