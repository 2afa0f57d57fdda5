"""Run the coroutine of a command, with a Ctrl-C that cannot tear up what releases samplers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it."""

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What asks a process to end: a person, a job's time that is up, a terminal that is closed."""

P = ParamSpec("P")


class Interrupts:
    """What the command that runs wants to be told of signals, and what it was told to end by."""

    def __init__(self) -> None:
        self.code = INTERRUPTED
        """Exit code after the first signal."""
        self.struck: Callable[[], object] = lambda: None
        """Called at the first one."""
        self.repeated: Callable[[], object] = lambda: None
        """Called at every further one."""
        self.is_settled = False
        """Whether it is decided how the command ends, so that no signal changes it any more."""


def run(command: Callable[P, Coroutine[Any, Any, int]], *args: P.args, **kwargs: P.kwargs) -> int:
    """Run *command*, the last thing that the process does, and return its exit code or that of a Ctrl-C.

    The first Ctrl-C cancels it and all others are ignored. `asyncio.run()` by itself would throw the second one into
    whatever runs in that moment, which may be the request that gives a GPU back.
    """
    return run_interruptible(lambda _: command(*args, **kwargs))


def run_interruptible(command: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> int:
    """Run *command* as `run()` does, with something to say at the second Ctrl-C; SIGTERM and SIGHUP do the same."""
    interrupts = Interrupts()

    async def interruptible() -> int:
        with _cancelled_once(interrupts):
            return await command(interrupts)

    try:
        return asyncio.run(interruptible())
    except (KeyboardInterrupt, asyncio.CancelledError):
        return interrupts.code


@contextmanager
def _cancelled_once(interrupts: Interrupts) -> Iterator[None]:
    """Let one signal cancel the current task, and none do anything to it afterwards."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    is_first = True

    def cancel(number: int) -> None:
        nonlocal is_first
        if interrupts.is_settled:
            return
        if is_first and task is not None:
            is_first = False
            interrupts.code = 128 + number
            task.cancel()
            interrupts.struck()
        else:
            interrupts.repeated()

    handled = []
    for number in SIGNALS:
        # A shell ignores SIGINT for what it starts in the background, and nohup SIGHUP; that is to stay so.
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        try:
            loop.add_signal_handler(number, cancel, number)
        except NotImplementedError:
            # Event loops on Windows have no signal handlers, and keep what asyncio.run() does.
            break
        handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
            # There is nothing left to interrupt; an impatient one would only spoil the exit code.
            signal.signal(number, signal.SIG_IGN)
