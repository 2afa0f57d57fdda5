"""Run the coroutine of a command, with a Ctrl-C that cannot tear up what releases samplers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it."""

P = ParamSpec("P")


def run(command: Callable[P, Coroutine[Any, Any, int]], *args: P.args, **kwargs: P.kwargs) -> int:
    """Run *command*, the last thing that the process does, and return its exit code or that of a Ctrl-C.

    The first Ctrl-C cancels it and all others are ignored. `asyncio.run()` by itself would throw the second one into
    whatever runs in that moment, which may be the request that gives a GPU back.
    """
    # A shell ignores it for what it starts in the background; that is to stay so.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    async def interruptible() -> int:
        with _cancelled_once(ignored):
            return await command(*args, **kwargs)

    try:
        return asyncio.run(interruptible())
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED


@contextmanager
def _cancelled_once(ignored: bool) -> Iterator[None]:
    """Let one Ctrl-C cancel the current task, and none do anything afterwards."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    interrupts = 0

    def cancel() -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1 and task is not None:
            task.cancel()

    try:
        if not ignored:
            loop.add_signal_handler(signal.SIGINT, cancel)
    except NotImplementedError:
        # Event loops on Windows have no signal handlers, and keep what asyncio.run() does.
        ignored = True
    try:
        yield
    finally:
        if not ignored:
            loop.remove_signal_handler(signal.SIGINT)
            # There is nothing left to interrupt; an impatient one would only spoil the exit code.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
