"""Which samplers a client knows by now, and which it made itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

FRESH_S: Final = 30.0
"""Seconds after the creation of a sampler in which parts of the service may not know it yet."""

FORGET_AFTER_S: Final = 3600.0
"""Seconds after which an id is forgotten. The creation time alone shows that an older sampler is no candidate of an
unknown create."""


def loop_time() -> float:
    """Return the time by the running event loop's clock, which goes on in a test that freezes the other clocks."""
    return asyncio.get_running_loop().time()


class KnownSamplers:
    """The ids of samplers that this client saw or made in the last hour. Times are the event loop's."""

    def __init__(self, clock: Callable[[], float] = loop_time) -> None:
        self._clock = clock
        self._seen_at: dict[str, float] = {}
        self._made_at: dict[str, float] = {}
        self._not_fresh: set[str] = set()
        self._next_purge = 0.0

    def mark_seen(self, *sampler_ids: str) -> None:
        """Record that these samplers exist by now: no create that begins later can have made them."""
        seen_at = self._seen_at
        now: float | None = None
        for sampler_id in sampler_ids:
            if sampler_id not in seen_at:
                if now is None:
                    now = self._clock()
                    self._purge(now)
                seen_at[sampler_id] = now

    def mark_made(self, *sampler_ids: str, fresh: bool = True) -> None:
        """Record that the create of these samplers is known, so that they are no candidates of unknown creates.

        *fresh* is whether they were created just now.
        """
        now = self._clock()
        for sampler_id in sampler_ids:
            if sampler_id not in self._made_at:
                self._made_at[sampler_id] = now
                if not fresh:
                    self._not_fresh.add(sampler_id)
        self._purge(now)

    def seen_at(self, sampler_id: str) -> float | None:
        """Return when a sampler was first seen; None if it was not."""
        return self._seen_at.get(sampler_id)

    def was_made(self, sampler_id: str) -> bool:
        """Return True if the create of this sampler is known."""
        return sampler_id in self._made_at

    def is_fresh(self, sampler_id: str) -> bool:
        """Return True if this client made the sampler so recently that a 404 for it proves nothing."""
        made_at = self._made_at.get(sampler_id)
        return made_at is not None and sampler_id not in self._not_fresh and self._clock() - made_at < FRESH_S

    def _purge(self, now: float) -> None:
        if now < self._next_purge:
            return
        # Every id is forgotten between one and two hours after it came in.
        self._next_purge = now + FORGET_AFTER_S
        for times in (self._seen_at, self._made_at):
            for sampler_id in [each for each, at in times.items() if now - at > FORGET_AFTER_S]:
                del times[sampler_id]
        self._not_fresh &= self._made_at.keys()
