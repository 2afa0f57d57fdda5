"""Work that a cancellation must not cut short, and a timer that can be brought forward.

`asyncio.shield()` alone does not protect work: it lets its caller go at once, and then no task is left to handle the
result. Here the caller stays until the work is done, however often it is cancelled, and its cancellation goes on after
that.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any, Final, TypeVar

T = TypeVar("T")


def spawn_shielded(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start *work* as a task that the end of `asyncio.run()` does not cancel.

    The caller owns the task, and must await it with `wait_through_cancellation()`.

    When its main coroutine has ended, `asyncio.run()` cancels all tasks that `asyncio.all_tasks()` shows, and then runs
    the event loop until they are done. A task that waits for *work* is among them, and stays until *work* is done; the
    task of *work* must not be, since it would be cut off.
    """
    task = asyncio.get_running_loop().create_task(work)
    # Documented for makers of task classes; all that it does is to take the task out of asyncio.all_tasks().
    asyncio._unregister_task(task)
    return task


async def wait_through_cancellation(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until *task* is done, through any number of cancellations; return the first of them.

    The caller must raise the cancellation that is returned, and handle the outcome of *task*, which is not raised here.
    """
    cancelled: asyncio.CancelledError | None = None
    with _cancel_scopes_shielded():
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                cancelled = cancelled or exc
    if _cancel_scope() is not None:
        # What a scope has cancelled meanwhile, it cancels now, and not only at an await of the caller's.
        try:
            for _ in range(2):
                await asyncio.sleep(0)
        except asyncio.CancelledError as exc:
            cancelled = cancelled or exc
    return cancelled


def _cancel_scopes_shielded() -> AbstractContextManager[object]:
    """Keep the cancel scopes of anyio away, if it is in use.

    They cancel a task again in each turn of the event loop until it has left the scope, which would keep a core busy
    for as long as the work takes. They cancel the first await after this block.
    """
    scope = _cancel_scope()
    return nullcontext() if scope is None else scope(shield=True)


def _cancel_scope() -> Callable[..., AbstractContextManager[object]] | None:
    """Return anyio's `CancelScope` if anyio is in use."""
    scope: Callable[..., AbstractContextManager[object]] | None = getattr(sys.modules.get("anyio"), "CancelScope", None)
    return scope


class ResettableTimer:
    """Wake one sleeping task at a time that other tasks may bring forward. Times are the event loop's."""

    def __init__(self) -> None:
        self.at = math.inf
        """Time at which the timer fires; may be set directly only while no task sleeps."""
        self._sleeper: asyncio.Future[None] | None = None
        self._handle: asyncio.TimerHandle | None = None

    def bring_forward(self, time: float) -> None:
        """Fire at *time*, unless the timer fires earlier anyway; minus infinity means now."""
        if time < self.at:
            self.at = time
            if self._sleeper is not None:
                self._arm()

    async def sleep(self) -> None:
        """Sleep until the timer fires; if its time is past, for one turn of the event loop."""
        loop = asyncio.get_running_loop()
        if self.at <= loop.time():
            await asyncio.sleep(0)
            return
        sleeper = self._sleeper = loop.create_future()
        self._arm()
        try:
            await sleeper
        finally:
            # A task whose cancellation arrives late must not disarm the timer of the one that sleeps now.
            if self._sleeper is sleeper:
                self._sleeper = None
                self._disarm()

    def _arm(self) -> None:
        self._disarm()
        if self.at < math.inf:
            loop = asyncio.get_running_loop()
            self._handle = loop.call_at(max(self.at, loop.time()), self._fire)

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)


TICKS_OF_A_TIMEOUT: Final = 20
"""Parts into which a `ResponsiveTimeout` is divided."""

LAST_TICKS: Final = 10
"""Turns of the event loop, at least, that remain at the end to read what arrived while it was blocked."""

LAST_TICK_S: Final = 0.005
"""Seconds of each of these turns, at least."""


class ResponsiveTimeout:
    """A bound on the time of a request that holds beside an event loop which is blocked now and then.

    Where a training step blocks the loop, a timeout and the response that has long arrived are seen in the same turn of
    the loop, and the timeout would win. So time in which the loop was blocked counts as one twentieth of the timeout at
    most, and at its end the loop gets some turns to read the socket. `hold()` may be used for several blocks, one after
    the other: they share the time.
    """

    def __init__(self, seconds: float) -> None:
        self._tick_s = seconds / TICKS_OF_A_TIMEOUT
        self._ticks_left = TICKS_OF_A_TIMEOUT + LAST_TICKS
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Raise TimeoutError if the block takes longer than what is left of the time."""
        async with asyncio.timeout(None) as scope:
            self._start_tick(scope)
            try:
                yield
            finally:
                if self._timer is not None:
                    self._timer.cancel()

    def _start_tick(self, scope: asyncio.Timeout) -> None:
        seconds = self._tick_s if self._ticks_left > LAST_TICKS else LAST_TICK_S
        self._timer = asyncio.get_running_loop().call_later(seconds, self._tick, scope)

    def _tick(self, scope: asyncio.Timeout) -> None:
        self._ticks_left -= 1
        if self._ticks_left > 0:
            self._start_tick(scope)
        else:
            scope.reschedule(asyncio.get_running_loop().time())
