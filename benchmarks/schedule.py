"""Is the default schedule worth its complication? A simulation: no I/O, no clock."""

from __future__ import annotations

import math
import random
from itertools import accumulate

from ._harness import median
from ._report import Report, Target

STAGES = ("BUILDING", "DEPLOYING", "LOADING_MODEL")
MIXES = {
    "usual: 60, 150, 90 s": (60.0, 150.0, 90.0),
    "warm image: 5, 60, 30 s": (5.0, 60.0, 30.0),
    "long queue: 60, 900, 90 s": (60.0, 900.0, 90.0),
    "big model: 60, 150, 900 s": (60.0, 150.0, 900.0),
}
SIGMAS = (0.3, 0.5, 0.8)
FIXED = 5.0
"""Seconds. Which interval it is hardly matters: half of it is the delay, its inverse the number of requests."""


def _course(chance: random.Random, medians: tuple[float, ...], sigma: float) -> list[float]:
    return list(accumulate(each * math.exp(chance.gauss(0.0, sigma)) for each in medians))


def _status(ends: list[float], now: float) -> str | None:
    return next((stage for stage, end in zip(STAGES, ends, strict=True) if now < end), None)


def simulate_ours(chance: random.Random, ends: list[float]) -> tuple[int, float]:
    """Return the number of polls of one wait and the delay of the last one, as `StatusPoller` plans them."""
    from loops_async import PollPolicy

    policy = PollPolicy()
    now = changed_at = 0.0
    polls = 1
    known = _status(ends, now)
    while known is not None:
        now += policy.jittered(policy.pause(now - changed_at, known), chance.random())
        polls += 1
        status = _status(ends, now)
        if status != known:
            known, changed_at = status, now
    return polls, now - ends[-1]


def simulate_fixed(ends: list[float], interval: float) -> tuple[int, float]:
    """Return the number of polls at a fixed interval and the delay of the last one."""
    polls = math.ceil(ends[-1] / interval)
    return polls + 1, polls * interval - ends[-1]


def _product(results: list[tuple[int, float]]) -> tuple[float, float, float]:
    polls = sum(polls for polls, _ in results) / len(results)
    delay = sum(delay for _, delay in results) / len(results)
    return polls, delay, polls * delay


def measure(quick: bool) -> Report:
    """Compare requests times mean delay of the default policy and of a fixed interval."""
    report = Report(
        f"schedule: one wait with the default policy, next to a poll every {FIXED:g} s (simulated)",
        ("medians of the stages", "sigma", "polls", "delay, s", "polls, fixed", "delay, s, fixed", "product ratio"),
    )
    count = 500 if quick else 2000
    for mix, medians in MIXES.items():
        shares_of_mix: list[float] = []
        for sigma in SIGMAS:
            shares, ours, fixed = [], [], []
            for seed in range(5):
                chance = random.Random(seed)
                courses = [_course(chance, medians, sigma) for _ in range(count)]
                ours.append(_product([simulate_ours(chance, ends) for ends in courses]))
                fixed.append(_product([simulate_fixed(ends, FIXED) for ends in courses]))
                shares.append(ours[-1][2] / fixed[-1][2])
            figures = [median(each[index] for each in side) for side in (ours, fixed) for index in (0, 1)]
            report.rows.append((mix, f"{sigma:g}", *figures, f"{median(shares):.2f}x"))
            shares_of_mix.append(median(shares))
        if mix == next(iter(MIXES)):
            report.targets.append(Target(f"polls times delay, {mix}, worst sigma", max(shares_of_mix), 0.5))
    report.remarks.append(
        f"Durations are lognormal; {count:,} waits each of 5 seeds, medians. The delay is the mean time from ACTIVE to "
        "the poll that finds it. Answers take no time here."
    )
    return report
