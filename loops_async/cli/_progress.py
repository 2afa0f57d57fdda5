"""Shows status changes at once: as a live table on a terminal, as lines everywhere else."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import Final, Self

from attrs import evolve
from rich.console import Console, Group
from rich.live import Live

from loops_async import StatusChange

from ._live import Board, Row
from ._picture import duration, picture
from ._words import clean, escaped, say, write_out

REPAINT: Final = 0.1
"""Seconds between two pictures: short enough to show tenths of a second."""

SHARE: Final = 10
"""Painting takes at most one part in so many of the process's time, however many samplers there are."""


HEARTBEAT_S: Final = 60.0
"""Seconds between two summary lines where there is no table, so that a log without changes shows that the program
runs."""


class Display:
    """Shows status changes during an `async with` block: a live table on a terminal, or else lines with the time.

    Args:
        board: Receives all changes, also with *quiet*. Default: a new board.
        stderr: Whether to write to stderr, since stdout is for data.
        quiet: Whether to write nothing.
    """

    def __init__(self, board: Board | None = None, *, stderr: bool = False, quiet: bool = False) -> None:
        self._board = board if board is not None else Board()
        self._stderr = stderr
        self._quiet = quiet
        self._live: Live | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._quiet:
            return self
        console = Console(stderr=self._stderr)
        # With FORCE_COLOR, rich would also paint into a pipe.
        if (sys.stderr if self._stderr else sys.stdout).isatty() and console.is_interactive:
            # rich's own refresh would read the board from another thread.
            self._live = Live(
                get_renderable=lambda: _picture(self._board, console), console=console, auto_refresh=False
            )
            self._live.start()
            self._task = asyncio.create_task(_repaint(self._live, console))
        else:
            self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the display; the last picture of the table stays. What is written afterwards goes below it."""
        task, live = self._task, self._live
        self._task = self._live = None
        try:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        finally:
            # A terminal that was closed must not change how the block ends.
            with suppress(OSError):
                if live is not None:
                    live.stop()
        if task is not None and not task.cancelled():
            task.result()

    def changed(self, change: StatusChange, remark: str = "") -> None:
        """Show a status change; *remark* is added to the line where there is no table."""
        self._board.changed(change)
        if self._live is None and not self._quiet:
            way = change.status if change.previous is None else f"{change.previous} -> {change.status}"
            self._write(f"{change.sampler.id}  {change.sampler.base_model}  {way}{remark and f'  ({remark})'}")

    def _write(self, text: str) -> None:
        line = f"{time.strftime('%H:%M:%S')} {f'+{self._board.seconds:.1f}':>8} s  {text}"
        if self._stderr:
            say(line)
        else:
            write_out(f"{clean(line)}\n")

    async def _beat(self) -> None:
        with suppress(OSError):
            while True:
                await asyncio.sleep(HEARTBEAT_S)
                self._write(self._board.summary())


def _picture(board: Board, console: Console) -> Group:
    size = console.size
    # In rich, this is true for every encoding except those of Unicode.
    is_ascii = console.options.ascii_only
    mark = None if console.no_color or console.color_system is None else "#" if is_ascii else "■"
    gpu_minutes = board.gpu_minutes
    totals = [duration(board.seconds)]
    if gpu_minutes:
        totals.append(f"about {gpu_minutes:.1f} GPU-minutes")
    rows = board.rows()
    if is_ascii:
        # Escaped here, so that the lengths of lines are known: the stream would make lines longer.
        rows = tuple(_escaped(row, console.encoding) for row in rows)
    # A full line, or a full screen, may make a terminal scroll.
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
    # A terminal that was closed must not prevent the deactivation of samplers.
    with suppress(OSError):
        while True:
            began = time.perf_counter()
            if console.size.width < size.width or console.size.height < size.height:
                # The terminal has broken the last picture into an unknown number of lines.
                console.clear()
            size = console.size
            live.refresh()
            await asyncio.sleep(max(REPAINT, SHARE * (time.perf_counter() - began)))
