"""The state of samplers that are coming up: rows made from status changes, and their cost so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, frozen

from loops_async import DeploymentStatus, PollPolicy, Sampler, StatusChange

READY: Final = PollPolicy().ready
DONE_STATUSES: Final = READY | PollPolicy().failed
"""Statuses in which a sampler is up or has failed."""

METERED: Final = frozenset(
    {
        DeploymentStatus.LOADING_MODEL,
        DeploymentStatus.ACTIVE,
        DeploymentStatus.UPDATING,
        DeploymentStatus.UNHEALTHY,
    }
)
"""Statuses in which a replica is up: building and scheduling are not metered.
https://docs.baseten.co/observability/usage"""


@frozen
class Stage:
    """A status of a sampler, and how long it lasted."""

    status: str
    seconds: float


@frozen
class Row:
    """A sampler at one moment."""

    base_model: str
    sampler_id: str
    stages: tuple[Stage, ...]
    """Statuses of the sampler, oldest first, the present one last; never empty."""
    elapsed: float
    """Seconds from the start of the wait until now, or until the sampler was up or had failed."""
    remaining: float | None = None
    """Seconds until the sampler should be up, from the times of earlier ones of its base model; None without any."""

    @property
    def status(self) -> str:
        """The present status."""
        return self.stages[-1].status


@define
class _Tracked:
    base_model: str
    started: float
    gpus: int
    course: list[tuple[str, float]]
    """Each status, with the time at which it was first seen."""
    done_at: float | None = None
    """Time at which it was up or had failed; None while it is coming up."""


class Board:
    """The rows of all samplers that had a status change, in the order of their first one.

    Args:
        clock: Returns the time in seconds.
        expected: Number of samplers when all are created; 0 if that is not known.
        typical: Returns the seconds that a sampler of a base model usually takes to come up; None if that is not known.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        expected: int = 0,
        typical: Callable[[str], float | None] = lambda _: None,
    ) -> None:
        self.expected = expected
        self._clock = clock
        self._typical = typical
        self._tracked: dict[str, _Tracked] = {}
        self._began = clock()

    def changed(self, change: StatusChange) -> None:
        """Record a status change."""
        sampler, now = change.sampler, self._clock()
        tracked = self._tracked.get(sampler.id)
        if tracked is None:
            tracked = _Tracked(sampler.base_model, now - change.elapsed, gpus_of(sampler), course=[])
            self._tracked[sampler.id] = tracked
        # A sampler may have had its first status for long before the first poll; here it begins with the wait.
        tracked.course.append((change.status, now if tracked.course else tracked.started))
        tracked.done_at = now if change.status in DONE_STATUSES else None

    def rows(self) -> tuple[Row, ...]:
        """Return the rows as they are now."""
        now = self._clock()
        return tuple(self._row(sampler_id, each, now) for sampler_id, each in self._tracked.items())

    @property
    def seconds(self) -> float:
        """Seconds since the board was made."""
        return self._clock() - self._began

    @property
    def gpu_minutes(self) -> float:
        """Estimated cost of all samplers so far: GPUs times the minutes with a replica up."""
        now = self._clock()
        total = 0.0
        for each in self._tracked.values():
            ends = [*(since for _, since in each.course[1:]), now]
            total += each.gpus * sum(
                end - since for (status, since), end in zip(each.course, ends, strict=True) if status in METERED
            )
        return total / 60

    def summary(self) -> str:
        """Return a short text with the number of samplers that are up, and the cost."""
        up = sum(each.course[-1][0] in READY for each in self._tracked.values())
        cost = f", {self.gpu_minutes:.1f} GPU-minutes" if self.gpu_minutes else ""
        return f"{up} of {max(self.expected, up)} up{cost}" if self.expected else f"{up} up{cost}"

    def _row(self, sampler_id: str, tracked: _Tracked, now: float) -> Row:
        end = now if tracked.done_at is None else tracked.done_at
        ends = [*(since for _, since in tracked.course[1:]), end]
        stages = tuple(
            Stage(status, until - since) for (status, since), until in zip(tracked.course, ends, strict=True)
        )
        elapsed = end - tracked.started
        typical = None if tracked.done_at is not None else self._typical(tracked.base_model)
        return Row(
            tracked.base_model, sampler_id, stages, elapsed, None if typical is None else max(0.0, typical - elapsed)
        )


def gpus_of(sampler: Sampler) -> int:
    """Return how many GPUs a sampler has; 1 where the service does not say."""
    machine = sampler.instance_type
    count = machine.gpu_count if machine is not None and machine.gpu_count is not None else 1
    return max(1, count) * max(1, sampler.node_count)


def most_telling(rows: Sequence[Row], number: int) -> list[Row]:
    """Choose *number* rows, and keep their order: failed ones first, then those coming up, then those that are up."""

    def rank(index: int) -> tuple[int, int]:
        status = rows[index].status
        return (2 if status in READY else 0 if status in DONE_STATUSES else 1), index

    return [rows[index] for index in sorted(sorted(range(len(rows)), key=rank)[:number])]
