"""Work that a cancellation must not cut short.

`asyncio.shield` alone is not enough: it lets the caller go at once, so nobody is left to look after the result.
Here the caller stays until the work is done, however often it is cancelled, and then goes on being cancelled.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

T = TypeVar("T")


def spawn_shielded(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start *work* as a task that the end of `asyncio.run()` does not cancel.

    Its owner must await it with `wait_through_cancellation()`.

    When its main coroutine is over, `asyncio.run()` cancels all the tasks that it can list, and would so cut off the
    inner half of something whose outer half was about to wait for it. It still runs the loop until every task that it
    cancelled is done, and with the outer half this one is, too.
    """
    task = asyncio.get_running_loop().create_task(work)
    # Documented for makers of task classes; it only takes the task out of asyncio.all_tasks().
    asyncio._unregister_task(task)
    return task


async def wait_through_cancellation(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until *task* is done, through any number of cancels; return the first of them.

    The task's own outcome is left for the caller to look at. A cancellation that is returned must be raised again.
    """
    cancelled: asyncio.CancelledError | None = None
    with _level_cancellation_shielded():
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                cancelled = cancelled or exc
    return cancelled


def _level_cancellation_shielded() -> AbstractContextManager[object]:
    """Hold off the cancel scopes of anyio, if it is in use.

    They cancel a task anew at each turn of the event loop until it has left the scope, which would keep a core busy for
    as long as the work takes. What they have to say is heard at the first await afterwards.
    """
    scope = getattr(sys.modules.get("anyio"), "CancelScope", None)
    return nullcontext() if scope is None else scope(shield=True)


class ResettableTimer:
    """Wake one sleeper at a time that others may bring forward. Times are the event loop's."""

    def __init__(self) -> None:
        self.at = math.inf
        """When it rings next; may be set directly only while nobody sleeps."""
        self._sleeper: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def bring_forward(self, time: float) -> None:
        """Ring at *time*, unless it rings earlier anyway; minus infinity is now."""
        if time < self.at:
            self.at = time
            if self._sleeper is not None:
                self._arm()

    def remaining(self) -> float:
        """Return the seconds until it rings, not below 0.0."""
        return max(0.0, self.at - asyncio.get_running_loop().time())

    async def sleep(self, seconds: float) -> None:
        """Sleep until it rings, which by what `remaining()` said is in so many *seconds*."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = self._sleeper = asyncio.get_running_loop().create_future()
        self._arm()
        try:
            await sleeper
        finally:
            # A sleeper that was cancelled late must not take the alarm from the one that came after it.
            if self._sleeper is sleeper:
                self._sleeper = None
                self._disarm()

    def _arm(self) -> None:
        self._disarm()
        if self.at < math.inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self.at, loop.time()), self._fire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)
