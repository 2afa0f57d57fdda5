"""When a request may start: one place per client that bounds and orders them.

A bounded number is in flight; when the service names a pause (`Retry-After`), *all* requests wait for its end. Those
that wait go by urgency: what releases samplers first, then what creates them, then what only reads. Waiting here
rather than in aiohttp's pool keeps the queue out of the request timeouts.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from enum import IntEnum


class Priority(IntEnum):
    """How urgent a request is; smaller goes first."""

    FINAL = 0
    """The one look that a wait takes at its deadline: it waits for no pause, and for none but its like."""
    TEARDOWN = 1
    """Whatever stops a bill."""
    CREATE = 2
    READ = 3
    WAKE = 4
    """What goes to the samplers' own addresses: a data plane that hangs must not keep the control plane's places."""


class RequestLimiter:
    """Admit requests: at most *limit* at once, none during a pause, the most urgent first.

    Last looks go beyond that, up to *limit* of them: whatever hangs or queues must not take their only chance. Wakes
    have a quarter of the places at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._active = 0
        self._looking = 0
        self._waking = 0
        self._order = itertools.count()
        self._queue: list[tuple[Priority, int, asyncio.Future[None]]] = []
        self._open_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def lower_limit(self, limit: int) -> None:
        """Admit no more than *limit* at once from now on."""
        self._limit = min(self._limit, limit)

    @property
    def data_plane_limit(self) -> int:
        """How many requests to the data plane may be in flight at once."""
        return max(1, self._limit // 4)

    def hold(self, seconds: float) -> None:
        """Let nothing start for *seconds*; a longer pause that is already on stays."""
        self._open_at = max(self._open_at, asyncio.get_running_loop().time() + seconds)

    def held(self) -> float:
        """Return the seconds until the pause ends, 0.0 if none is on."""
        return max(0.0, self._open_at - asyncio.get_running_loop().time())

    async def acquire(self, priority: Priority) -> None:
        """Wait for a place; each one is given back with `release()`. A cancel here leaves nothing taken."""
        loop = asyncio.get_running_loop()
        if not self._queue and self._has_place(priority, self._open_at - loop.time()):
            self._take(priority)
            return
        place = loop.create_future()
        heapq.heappush(self._queue, (priority, next(self._order), place))
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                # The place was given in the very moment in which the cancel came.
                self.release(priority)
            else:
                place.cancel()
            raise

    def release(self, priority: Priority) -> None:
        """Give a place back that was taken with *priority*."""
        if priority is Priority.FINAL:
            self._looking -= 1
        else:
            self._active -= 1
            self._waking -= priority is Priority.WAKE
        self._admit()

    def _has_place(self, priority: Priority, held: float) -> bool:
        if priority is Priority.FINAL:
            return self._looking < self._limit
        free = held <= 0 and self._active < self._limit
        return free and (priority is not Priority.WAKE or self._waking < max(1, self._limit // 4))

    def _take(self, priority: Priority) -> None:
        if priority is Priority.FINAL:
            self._looking += 1
        else:
            self._active += 1
            self._waking += priority is Priority.WAKE

    def _admit(self) -> None:
        loop = asyncio.get_running_loop()
        held = self._open_at - loop.time()
        # Last looks sort before all others and wakes behind them, so that the first in the queue tells for all.
        while self._queue:
            priority, _, place = self._queue[0]
            if not place.done():
                if not self._has_place(priority, held):
                    break
                self._take(priority)
                place.set_result(None)
            heapq.heappop(self._queue)
        if self._queue and held > 0 and self._timer is None:
            self._timer = loop.call_later(held, self._reopen)

    def _reopen(self) -> None:
        self._timer = None
        self._admit()

    def close(self) -> None:
        """Drop the timer of a pause; whoever still waits is woken up first."""
        self._open_at = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._admit()
