"""Show status changes as they come: a live table on a terminal, lines everywhere else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import click
from rich.console import Console
from rich.live import Live

from loops_async import StatusChange

from ._live import Board, table
from ._plain import status_line
from ._words import say

REPAINT: Final = 0.1
"""Seconds between two pictures: often enough for tenths of a second to run."""


@asynccontextmanager
async def progress(*, stderr: bool = False, quiet: bool = False) -> AsyncIterator[Callable[[StatusChange], None]]:
    """Give an `on_status` for any number of waits; the live table keeps its last picture when the block ends.

    It goes to stdout, or to *stderr* where stdout is for data; *quiet* shows nothing.
    """
    if quiet:
        yield lambda _: None
        return
    console = Console(stderr=stderr)
    # rich alone would paint into a pipe, too, where FORCE_COLOR is set.
    if not ((sys.stderr if stderr else sys.stdout).isatty() and console.is_interactive):
        yield (lambda change: say(status_line(change))) if stderr else (lambda change: click.echo(status_line(change)))
        return
    board = Board()
    mark = "#" if console.options.ascii_only else "■"
    # rich's own refresh would read the board from another thread.
    with Live(get_renderable=lambda: table(board.rows(), mark=mark), console=console, auto_refresh=False) as live:
        painter = asyncio.create_task(_repaint(live))
        try:
            yield board.changed
        finally:
            painter.cancel()
            await asyncio.wait([painter])
            if not painter.cancelled():
                painter.result()


async def _repaint(live: Live) -> None:
    while True:
        live.refresh()
        await asyncio.sleep(REPAINT)
