"""What a person sees: the screen of a terminal at each size, before and after the first and the second Ctrl-C."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import signal
from collections.abc import Callable
from functools import partial

import pyte
import pytest

from loops_async.emulator import Fault

from ..launching import DEACTIVATE
from .command_process import SECONDS
from .on_plane import BAD, QUICK, SLOW, end_of, plane, run, starting
from .terminal import terminal

ROWS = 20
COUNT = 40


class Screen:
    """The screen of a terminal, fed with what comes out of its other end."""

    def __init__(self, end: int, columns: int, rows: int) -> None:
        self._end = end
        self._columns = columns
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    @property
    def lines(self) -> list[str]:
        """The lines that are on the screen, without the empty ones at its end."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")

    @property
    def text(self) -> str:
        """The screen with its lines joined where the terminal has broken them."""
        return "".join(line if len(line.rstrip()) == self._columns else f"{line.rstrip()}\n" for line in self._display)

    @property
    def _display(self) -> list[str]:
        return list(self._screen.display)

    async def show(self, condition: Callable[[Screen], object] = lambda _: False) -> None:
        """Read until *condition* is true of the screen, or to the end."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS):
            while not condition(self):
                readable = asyncio.Event()
                loop.add_reader(self._end, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self._end)
                try:
                    part = os.read(self._end, 65536)
                except OSError:
                    # How Linux says that the other end is closed.
                    part = b""
                if not part:
                    return
                self._stream.feed(self._decoder.decode(part))


def tables(screen: Screen) -> int:
    """Count the heads of tables on a screen."""
    return sum(line.startswith("base model") for line in screen.lines)


@pytest.mark.parametrize("columns", [50, 80, 160])
async def test_the_screen_holds_the_ids_and_the_command_after_each_ctrl_c(columns: int) -> None:
    async with plane() as emulator:
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=1.0, times=None))
        with terminal(columns, ROWS) as (ours, theirs):
            screen = Screen(ours, columns, ROWS)
            words = ("launch", SLOW, "--count", str(COUNT), *QUICK)
            async with starting(emulator, *words, stdout=theirs, stderr=theirs) as process:
                os.close(theirs)
                await screen.show(lambda screen: "… and 24 more: 24 BUILDING" in screen.text)
                assert screen.lines[0].startswith(f"{COUNT} BUILDING")
                assert len(screen.lines) <= ROWS
                assert tables(screen) == 1
                ids = {each.id for each in emulator.samplers}
                for words_of_it in ("Interrupted; deactivating 40 samplers.", "Still deactivating; 40 samplers are"):
                    process.send_signal(signal.SIGINT)
                    await screen.show(partial(whole, words=words_of_it, ids=ids))
                    assert emulator.billed == ids
                    # It is the last thing on the screen, and stays there.
                    before = screen.lines
                    await asyncio.sleep(0.25)
                    assert screen.lines == before
                await screen.show()
                ended = await end_of(process)
            assert not emulator.billed
    assert ended.code == 130
    assert re.search(rf"Interrupted\.\nDeactivated {COUNT} samplers: ", screen.text)
    assert tables(screen) <= 1


def whole(screen: Screen, words: str, ids: set[str]) -> bool:
    """Return True if the screen has *words*, and ends in the command that deactivates *ids*."""
    _, found, rest = screen.text.rpartition("  loops-async deactivate ")
    return bool(found) and words in screen.text and ids <= {*rest.split()}


async def test_a_launch_that_fails_leaves_one_table_and_what_was_done() -> None:
    async with plane() as emulator:
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.3, times=None))
        with terminal(80, ROWS) as (ours, theirs):
            screen = Screen(ours, 80, ROWS)
            words = ("launch", SLOW, SLOW, BAD, *QUICK)
            async with starting(emulator, *words, stdout=theirs, stderr=theirs) as process:
                os.close(theirs)
                await screen.show()
                ended = await end_of(process)
        assert not emulator.billed
    assert ended.code == 1
    assert tables(screen) == 1
    assert "Failed; deactivating " in screen.text
    assert "BUILD_FAILED" in screen.text
    assert "Deactivated 3 samplers: " in screen.text


async def test_an_outage_is_reported_above_the_table() -> None:
    warned = """
import asyncio, logging
from loops_async.cli import _progress

enter = _progress.Display.__aenter__

async def warn(self):
    result = await enter(self)
    asyncio.get_running_loop().call_later(0.4, logging.getLogger("loops_async").warning, "all polls have failed")
    return result

_progress.Display.__aenter__ = warn
"""
    async with plane() as emulator:
        with terminal(80, ROWS) as (ours, theirs):
            screen = Screen(ours, 80, ROWS)
            words = ("launch", SLOW, "--count", "3", *QUICK)
            async with starting(emulator, *words, before=warned, stdout=theirs, stderr=theirs) as process:
                os.close(theirs)
                await screen.show(lambda screen: "3 BUILDING" in screen.text and "Warning" in screen.text)
                assert re.match(r"\d\d:\d\d:\d\d  Warning: all polls have failed\n3 BUILDING", screen.text)
                assert tables(screen) == 1
                process.send_signal(signal.SIGINT)
                await screen.show()
                await end_of(process)
        assert not emulator.billed


async def test_without_a_terminal_there_is_a_line_each_minute() -> None:
    quick = "from loops_async.cli import _progress\n_progress.HEARTBEAT_S = 0.2\n"
    async with plane() as emulator:
        ended = await run(emulator, "launch", SLOW, "--count", "2", "--timeout", "0.7", *QUICK, before=quick)
    assert ended.code == 3
    lines = ended.errors.splitlines()
    assert sum(re.fullmatch(r"\d\d:\d\d:\d\d +\+0\.\d s  0 of 2 up", line) is not None for line in lines) >= 1
