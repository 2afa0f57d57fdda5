"""`run()`: `asyncio.run()` for scripts, with signals that let the teardown finish.

What happens at a signal, with the default action of SIGTERM and with `asyncio.run()` for comparison:

| | default action of SIGTERM | SIGINT in `asyncio.run()` | a signal in `run()` |
|---|---|---|---|
| first | the process ends; nothing is deactivated | cancels the main task | cancels the main task |
| second | | KeyboardInterrupt in whatever runs, such as a deactivation | prints what is still billed |
| end | -15 | KeyboardInterrupt, exit code 130 | `SystemExit(128 + number)` |

To print what is still billed, `run()` must know of the launches inside. Each `launch()` registers with the `run()` in
whose context it is entered, by a context variable: tasks inherit it, and a `run()` in another thread has its own.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from types import FrameType
from typing import Any, Final, TypeVar

from attrs import frozen

T = TypeVar("T")

DEFAULT_SIGNALS: Final[tuple[signal.Signals, ...]] = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a process to end: from a user, from a scheduler, from a terminal that is closed. Windows has no
SIGHUP."""


def run(main: Coroutine[Any, Any, T], *, signals: Iterable[int] = DEFAULT_SIGNALS) -> T:
    """Run *main* as `asyncio.run()` does, and let a signal end it through its teardown.

    The first signal cancels *main*, once. So each `launch()` in it deactivates its samplers, and each `async with` and
    `finally` runs to its end. Later signals change nothing: they only print to stderr what is still billed. When *main*
    has ended, `SystemExit(128 + number)` of the first signal is raised, even if *main* returned a value.

        async def main() -> None:
            async with LoopsClient() as client, launch(client, ["Qwen/Qwen3-8B"] * 8) as fleet:
                ...

        loops_async.run(main())

    A teardown takes up to its `teardown_timeout`, by default 60 seconds and more for a large fleet. After SIGTERM,
    most supervisors send SIGKILL when a grace period is over, and samplers that are not deactivated by then stay
    billed: Kubernetes waits 30 seconds (`terminationGracePeriodSeconds`), `docker stop` 10 (`--time`), and systemd 90
    (`TimeoutStopSec`). Make the grace period longer than `teardown_timeout`, and launch with a `journal`: after a
    SIGKILL, `loops_async.journal.reclaim()` can then deactivate these samplers.

    - Signals that are ignored when this is called stay ignored, such as SIGHUP under nohup. The previous handlers are
      in place again when this returns or raises. No other function of this package installs signal handlers.
    - Only the main thread can handle signals. In another thread this does what `asyncio.run()` does.
    - A signal is handled when the event loop runs next. Code that blocks the loop delays it, and Ctrl-C cannot end
      such code; SIGQUIT (Ctrl-\\) still ends the process at once, without a teardown.

    Args:
        main: The coroutine to run: `main()`, not `main`.
        signals: Numbers of the signals to handle; by default SIGINT, SIGTERM and SIGHUP, as far as the system has them.
            Other signals keep their handlers; without SIGINT, `asyncio.run()` raises KeyboardInterrupt.

    Returns:
        What *main* returns.

    Raises:
        TypeError, ValueError: *main* is not a coroutine, or a signal cannot be handled; nothing was run.
        RuntimeError: An event loop is running in this thread; nothing was run.
        SystemExit: There was a signal. If *main* raised something other than the cancellation, it is logged first, as
            `asyncio.run()` logs it for other tasks.
        BaseException: Whatever *main* raises, without a signal.
    """
    if not asyncio.iscoroutine(main):
        raise TypeError(f"main must be a coroutine, as in run(main()), not {type(main).__name__}")
    script = _Script()
    try:
        numbers = _checked(signals)
        _check_no_running_loop()
        with _handled(numbers, script.on_signal), asyncio.Runner() as runner:
            script.loop = runner.get_loop()
            try:
                result = runner.run(script.supervise(main))
            except asyncio.CancelledError:
                if script.first is None:
                    raise
            except Exception as exc:
                if script.first is None:
                    raise
                words = f"unhandled exception after {script.first.name}"
                script.loop.call_exception_handler({"message": words, "exception": exc, "task": script.task})
    finally:
        # If it did not run, Python would warn that it was never awaited.
        main.close()
    if script.first is not None:
        raise SystemExit(128 + script.first)
    return result


@frozen
class Billed:
    """What a launch still has to deactivate."""

    sampler_ids: tuple[str, ...]
    """Ids of the samplers that are billed until the launch has deactivated them."""
    unanswered: int
    """Number of creates whose response is awaited; each may make another sampler."""
    options: tuple[str, ...] = ()
    """Options with which `loops-async` talks to the same service."""


def register_billed(source: Callable[[], Billed]) -> Callable[[], None]:
    """Let the `run()` in whose context this is called print what *source* returns; return a function that ends that.

    Without such a `run()`, do nothing.
    """
    script = _current_script.get()
    if script is None:
        return lambda: None
    script.sources[source] = None
    return partial(script.sources.pop, source, None)


class _Script:
    """One call of `run()`."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Any] | None = None
        self.first: signal.Signals | None = None
        """The first signal."""
        self.sources: dict[Callable[[], Billed], None] = {}
        """Functions that return what is billed, in the order of the launches."""
        self._was_cancelled = False

    async def supervise(self, main: Coroutine[Any, Any, T]) -> T:
        _current_script.set(self)
        self.task = asyncio.current_task()
        if self.first is not None:
            # The signal came before there was a task.
            self._act()
        return await main

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal. This runs between two instructions of the main thread, so it only schedules the work."""
        is_first = self.first is None
        self.first = self.first or signal.Signals(number)
        # After the end the loop is closed.
        with suppress(RuntimeError):
            if self.loop is not None and (self.task is not None or not is_first):
                self.loop.call_soon_threadsafe(self._act)

    def _act(self) -> None:
        if self._was_cancelled:
            self._print_billed()
        elif self.task is not None:
            self._was_cancelled = True
            # This has no effect if *main* has ended.
            self.task.cancel()

    def _print_billed(self) -> None:
        lines = []
        found = [source() for source in self.sources]
        for billed in found:
            if billed.sampler_ids:
                number = len(billed.sampler_ids)
                words = "1 sampler is" if number == 1 else f"{number} samplers are"
                command = shlex.join(["loops-async", "deactivate", *billed.options, *billed.sampler_ids])
                lines += [
                    f"Still deactivating; {words} billed until that is done. If this process is killed now, use",
                    f"  {command}",
                ]
        if unanswered := sum(billed.unanswered for billed in found):
            words = "1 create" if unanswered == 1 else f"{unanswered} creates"
            lines.append(f"Still waiting for the response to {words}, and then deactivating what is made.")
        lines = lines or ["Still ending; no launch has a sampler that is billed."]
        # A terminal that is gone must not end the teardown.
        with suppress(OSError, ValueError):
            if sys.stderr is not None:
                print(*lines, sep="\n", file=sys.stderr, flush=True)


_current_script: Final[ContextVar[_Script | None]] = ContextVar("loops_async.run", default=None)


def _checked(signals: Iterable[int]) -> list[signal.Signals]:
    try:
        return [signal.Signals(number) for number in dict.fromkeys(signals)]
    except TypeError:
        raise TypeError(f"signals must be several numbers of signals, not {type(signals).__name__}") from None
    except ValueError as exc:
        raise ValueError(f"signals: {exc}") from None


def _check_no_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("run() cannot be called while an event loop runs in the same thread; await main() there")


@contextmanager
def _handled(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call *handler* for signals during the block, except for signals that are ignored.

    These are plain handlers, not those of the event loop: those are removed before the loop has closed, reset SIGTERM
    to its default, and do not exist on Windows. `asyncio.run()` installs no handler for a SIGINT that has one.
    """
    previous: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                present = signal.getsignal(number)
                # A shell ignores SIGINT for a command in the background, and nohup ignores SIGHUP. None stands for a
                # handler that is not Python's and could not be restored.
                if present is None or present is signal.SIG_IGN:
                    continue
                try:
                    signal.signal(number, handler)
                except OSError as exc:
                    raise ValueError(f"{number.name} cannot be handled: {exc.strerror}") from None
                previous[number] = present
        yield
    finally:
        for number, present in previous.items():
            signal.signal(number, present)
