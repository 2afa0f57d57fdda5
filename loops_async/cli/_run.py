"""Run the coroutine of a command such that a Ctrl-C cannot interrupt the deactivation of samplers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it."""

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a process to end: from a user, from a scheduler, from a terminal that is closed."""

P = ParamSpec("P")


class Interrupts:
    """What the running command does at a signal, and the exit code for it."""

    def __init__(self) -> None:
        self.code = INTERRUPTED
        """Exit code of the command after the first signal."""
        self.struck: Callable[[], object] = lambda: None
        """Function that is called at the first signal."""
        self.repeated: Callable[[], object] = lambda: None
        """Function that is called at each further signal."""
        self.is_settled = False
        """Whether the end of the command is decided, so that signals are ignored."""


def run(command: Callable[P, Coroutine[Any, Any, int]], *args: P.args, **kwargs: P.kwargs) -> int:
    """Run *command*, which is the last thing that the process does; return its exit code or that of a Ctrl-C.

    The first Ctrl-C cancels it; later ones are ignored. `asyncio.run()` by itself would raise the second one in
    whatever runs at that moment, which may be the request that deactivates a sampler.
    """
    return run_interruptible(lambda _: command(*args, **kwargs))


def run_interruptible(command: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> int:
    """Run *command* as `run()` does, and call what it has set for signals; SIGTERM and SIGHUP count as Ctrl-C."""
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
    """Let the first signal cancel the current task, and no later one."""
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
        # A shell ignores SIGINT for what it starts in the background, and nohup SIGHUP: they stay ignored.
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
            # There is nothing left to interrupt; one more signal would only change the exit code.
            signal.signal(number, signal.SIG_IGN)
