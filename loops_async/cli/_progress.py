"""Show status changes as they come: a live table on a terminal, lines everywhere else."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import click
from rich.console import Console, Group
from rich.live import Live

from loops_async import StatusChange

from ._live import Board
from ._picture import duration, picture
from ._plain import status_line
from ._words import say

REPAINT: Final = 0.1
"""Seconds between two pictures: often enough for tenths of a second to run."""

SHARE: Final = 10
"""Of its time, the process paints one part in so many at most, however many samplers there are."""


@asynccontextmanager
async def progress(
    board: Board | None = None, *, stderr: bool = False, quiet: bool = False
) -> AsyncIterator[Callable[[StatusChange], None]]:
    """Give an `on_status` for any number of waits; the live table keeps its last picture when the block ends.

    It goes to stdout, or to *stderr* where stdout is for data; *quiet* shows nothing. Changes are taken down on *board*
    in any case.
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
            click.echo(status_line(change))

    return show


def _picture(board: Board, console: Console) -> Group:
    size = console.size
    mark = None if console.no_color or console.color_system is None else "#" if console.options.ascii_only else "■"
    gpu_minutes = board.gpu_minutes
    totals = duration(board.seconds) + (f" · about {gpu_minutes:.1f} GPU-minutes" if gpu_minutes else "")
    # A line that is full, or a screen that is, may make a terminal scroll.
    lines = picture(
        board.rows(),
        width=max(1, size.width - 1),
        height=max(3, size.height - 1),
        expected=board.expected,
        totals=totals,
        mark=mark,
    )
    for line in lines:
        line.end = "\n"
    return Group(*lines)


async def _repaint(live: Live, console: Console) -> None:
    size = console.size
    # A terminal that is gone must not keep anybody from releasing a sampler.
    with suppress(OSError):
        while True:
            began = time.perf_counter()
            if console.size.width < size.width or console.size.height < size.height:
                # What was painted is broken into more lines now than can be counted.
                console.clear()
            size = console.size
            live.refresh()
            await asyncio.sleep(max(REPAINT, SHARE * (time.perf_counter() - began)))
