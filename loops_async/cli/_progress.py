"""Show status changes as they come: a live table on a terminal, lines everywhere else."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from attrs import evolve
from rich.console import Console, Group
from rich.live import Live

from loops_async import StatusChange

from ._live import Board, Row
from ._picture import duration, picture
from ._plain import status_line
from ._words import escaped, say, write_out

REPAINT: Final = 0.1
"""Seconds between two pictures: short enough for tenths of a second to run."""

SHARE: Final = 10
"""Painting takes at most one part in so many of the process's time, however many samplers there are."""


@asynccontextmanager
async def progress(
    board: Board | None = None, *, stderr: bool = False, quiet: bool = False
) -> AsyncIterator[Callable[[StatusChange], None]]:
    """Yield an `on_status` for any number of waits; the last picture of the live table stays when the block ends.

    Args:
        board: Receives all changes, also with *quiet*; a new one by default.
        stderr: Whether to write to stderr, since stdout is for data.
        quiet: Whether to write nothing.
    """
    board = board if board is not None else Board()
    console = Console(stderr=stderr)
    # rich alone would paint into a pipe, too, where FORCE_COLOR is set.
    is_live = (sys.stderr if stderr else sys.stdout).isatty() and console.is_interactive
    if quiet or not is_live:
        yield _lines(board, stderr=stderr, quiet=quiet)
        return
    # rich's own refresh would read the board from another thread.
    live = Live(get_renderable=lambda: _picture(board, console), console=console, auto_refresh=False)
    live.start()
    painter = asyncio.create_task(_repaint(live, console))
    try:
        yield board.changed
    finally:
        painter.cancel()
        await asyncio.wait([painter])
        # A terminal that is gone changes nothing about how the block ended.
        with suppress(OSError):
            live.stop()
        if not painter.cancelled():
            painter.result()


def _lines(board: Board, *, stderr: bool, quiet: bool) -> Callable[[StatusChange], None]:
    def show(change: StatusChange) -> None:
        board.changed(change)
        if quiet:
            return
        if stderr:
            say(status_line(change))
        else:
            write_out(f"{status_line(change)}\n")

    return show


def _picture(board: Board, console: Console) -> Group:
    size = console.size
    # What rich means by this is every encoding but UTF-8 and its kin.
    is_ascii = console.options.ascii_only
    mark = None if console.no_color or console.color_system is None else "#" if is_ascii else "■"
    gpu_minutes = board.gpu_minutes
    totals = [duration(board.seconds)]
    if gpu_minutes:
        totals.append(f"about {gpu_minutes:.1f} GPU-minutes")
    rows = board.rows()
    if is_ascii:
        # Here, so that lines are as long as they look: the stream would make them longer.
        rows = tuple(_escaped(row, console.encoding) for row in rows)
    # A line that is full, or a screen that is, may make a terminal scroll.
    lines = picture(
        rows,
        width=max(1, size.width - 1),
        height=max(3, size.height - 1),
        expected=board.expected,
        totals=totals,
        mark=mark,
        is_ascii=is_ascii,
    )
    for line in lines:
        line.end = "\n"
    return Group(*lines)


def _escaped(row: Row, encoding: str) -> Row:
    stages = tuple(evolve(stage, status=escaped(stage.status, encoding)) for stage in row.stages)
    return evolve(
        row,
        base_model=escaped(row.base_model, encoding),
        sampler_id=escaped(row.sampler_id, encoding),
        stages=stages,
    )


async def _repaint(live: Live, console: Console) -> None:
    size = console.size
    # A terminal that is gone must not keep anybody from deactivating a sampler.
    with suppress(OSError):
        while True:
            began = time.perf_counter()
            if console.size.width < size.width or console.size.height < size.height:
                # The terminal has broken the lines of the last picture into an unknown number of lines.
                console.clear()
            size = console.size
            live.refresh()
            await asyncio.sleep(max(REPAINT, SHARE * (time.perf_counter() - began)))
