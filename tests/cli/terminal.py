"""A pseudo-terminal for a process, and what comes out of it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SECONDS: Final = 10.0
"""Longest wait for what is to come."""

SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def terminal(columns: int, lines: int = 24) -> Iterator[tuple[int, int]]:
    """Give the two ends of a pseudo-terminal: ours, and the one for a process."""
    ours, theirs = pty.openpty()
    resize(theirs, columns, lines)
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def resize(end: int, columns: int, lines: int = 24) -> None:
    """Give a terminal another size, and tell its process."""
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def read(end: int, until: str | None = None) -> str:
    """Return what comes out of a pseudo-terminal, to its end or until it holds *until*."""
    seen = b""
    end_by = time.monotonic() + SECONDS
    while until is None or until.encode() not in seen:
        # A read that waits for ever would outlast the test.
        if time.monotonic() > end_by or not select.select([end], [], [], SECONDS)[0]:
            raise TimeoutError(f"{until!r} did not come: {seen.decode(errors='replace')[-500:]}")
        try:
            part = os.read(end, 65536)
        except OSError:
            # How Linux says that the other end is closed; elsewhere the read is empty.
            part = b""
        if not part:
            break
        seen += part
    # It may end in the middle of a letter.
    return seen.decode(errors="replace")


async def read_in_thread(end: int, until: str | None = None) -> str:
    """Do what `read()` does while the event loop goes on."""
    return await asyncio.to_thread(read, end, until)


def plain(output: str) -> str:
    """Return what a terminal was sent without the colours and the moves of its cursor."""
    return ESCAPE.sub("", output).replace("\r", "")
