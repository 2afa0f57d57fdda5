"""A sleep whose end can be moved while it lasts."""

from __future__ import annotations

import asyncio
import math


class Alarm:
    """Wake one sleeper at a time that others may bring forward. Times are the event loop's."""

    def __init__(self) -> None:
        self.at = math.inf
        """When it rings next; may be set directly only while nobody sleeps."""
        self._sleeper: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def no_later_than(self, time: float) -> None:
        """Ring at *time*, unless it rings earlier anyway; minus infinity is now."""
        if time < self.at:
            self.at = time
            if self._sleeper is not None:
                self._wind()

    def remaining(self) -> float:
        """Return the seconds until it rings, not below 0.0."""
        return max(0.0, self.at - asyncio.get_running_loop().time())

    async def sleep(self, seconds: float) -> None:
        """Sleep until it rings, which by what `remaining()` said is in so many *seconds*."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = self._sleeper = asyncio.get_running_loop().create_future()
        self._wind()
        try:
            await sleeper
        finally:
            # A sleeper that was cancelled late must not take the alarm from the one that came after it.
            if self._sleeper is sleeper:
                self._sleeper = None
                self._unwind()

    def _wind(self) -> None:
        self._unwind()
        if self.at < math.inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self.at, loop.time()), self._ring)

    def _unwind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)
