"""A table of samplers that moves: rows out of status changes, and a picture of rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from attrs import define, frozen
from rich.table import Table
from rich.text import Text

from loops_async import DeploymentStatus, PollPolicy, StatusChange

SETTLED: Final = PollPolicy().ready | PollPolicy().failed

STYLES: Final[Mapping[str, str]] = {
    DeploymentStatus.BUILDING: "blue",
    DeploymentStatus.DEPLOYING: "cyan",
    DeploymentStatus.LOADING_MODEL: "yellow",
    DeploymentStatus.UPDATING: "yellow",
    DeploymentStatus.SCALED_TO_ZERO: "magenta",
    DeploymentStatus.WAKING_UP: "bright_magenta",
    DeploymentStatus.ACTIVE: "bold green",
}
"""Colours of the statuses on the way up."""


@frozen
class Row:
    """A sampler at one moment."""

    base_model: str
    sampler_id: str
    course: tuple[str, ...]
    """The statuses that it went through, oldest first, with the present one last; never empty."""
    elapsed: float
    """Seconds from the start of the wait, until now or until it settled."""


def table(rows: Iterable[Row], *, mark: str = "■") -> Table:
    """Draw one line for each row, under a count of the statuses; *mark* stands for one status gone through.

    The count comes first because a terminal that is too low shows the top of a live table only.
    """
    rows = tuple(rows)
    counts = Counter(row.course[-1] for row in rows)
    drawn = Table(
        title=Text(", ".join(f"{count} {status}" for status, count in counts.items())), title_justify="left", box=None
    )
    drawn.add_column("base model", overflow="fold")
    drawn.add_column("sampler", overflow="fold")
    drawn.add_column("status", min_width=len(DeploymentStatus.SCALED_TO_ZERO), no_wrap=True)
    drawn.add_column("seconds", justify="right", no_wrap=True)
    drawn.add_column("stages", min_width=6)
    for row in rows:
        status = row.course[-1]
        # Names come from outside; as plain strings they would be read as rich's markup.
        drawn.add_row(
            Text(row.base_model),
            Text(row.sampler_id),
            Text(status, _style(status)),
            Text(f"{row.elapsed:.1f}"),
            Text.assemble(*((mark, _style(each)) for each in row.course)),
        )
    return drawn


def _style(status: str) -> str:
    return STYLES.get(status, "bold red" if status in SETTLED else "")


@define
class _Tracked:
    base_model: str
    started: float
    course: list[str]
    settled: float | None = None


class Board:
    """The rows of all samplers that a status change was seen of, in the order in which they were first seen."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tracked: dict[str, _Tracked] = {}

    def changed(self, change: StatusChange) -> None:
        """Take a status change."""
        sampler = change.sampler
        tracked = self._tracked.setdefault(
            sampler.id, _Tracked(sampler.base_model, self._clock() - change.elapsed, course=[])
        )
        tracked.course.append(change.status)
        tracked.settled = change.elapsed if change.status in SETTLED else None

    def rows(self) -> tuple[Row, ...]:
        """Return the rows as they are now."""
        now = self._clock()
        return tuple(
            Row(
                each.base_model,
                sampler_id,
                tuple(each.course),
                now - each.started if each.settled is None else each.settled,
            )
            for sampler_id, each in self._tracked.items()
        )
