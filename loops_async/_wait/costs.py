"""What a poll costs, by plan: a GET for each sampler, or one list for all.

The list has no pages and holds dead and foreign samplers too, so its price is not known beforehand: it is measured,
and the cheaper plan is chosen anew at every poll. A launch of hundreds is polled by lists; its last few stragglers in
an account with thousands of dead samplers are asked for one by one.
"""

from __future__ import annotations

from typing import Final

REQUEST_BYTES: Final = 48 * 1024
"""What one request is worth in bytes of a list.

For the CPU of both sides a request costs about as much as a hundred rows, for the network as much as two. This is
the CPU's rate, since a client that waits for many is short of CPU long before it is short of network.
"""

SECOND_BYTES: Final = 256 * 1024
"""What one second of waiting for an answer is worth in bytes: it tells of a service that finds lists hard to make."""

GET_BYTES: Final = 600.0
"""Bytes of an answer about one sampler, until the first is seen; a row of a list has about as many."""

FOREIGN_ROWS: Final = 500.0
"""Rows about others that a list is thought to hold, until the first is seen."""

MEMORY: Final = 0.5
"""How much the newest measurement counts against those before it."""

STALE: Final = 600.0
"""Seconds after which a list that was found dear is looked at once more."""


class PollCosts:
    """The measured prices of one client's polls. Times are in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._get_bytes = GET_BYTES
        self._row_bytes = GET_BYTES
        self._foreign_rows = FOREIGN_ROWS
        self._get_seconds = 0.0
        self._list_seconds = 0.0
        self._measured_at: float | None = None

    def record_get(self, size: int, seconds: float) -> None:
        """Learn from an answer about one sampler, of *size* bytes, that took *seconds*."""
        self._get_bytes += MEMORY * (size - self._get_bytes)
        self._get_seconds += MEMORY * (seconds - self._get_seconds)

    def record_list(self, size: int, rows: int, wanted: int, seconds: float, now: float) -> None:
        """Learn from a list of *size* bytes and *rows* rows, *wanted* of which were waited for; it took *seconds*."""
        self._list_seconds += MEMORY * (seconds - self._list_seconds)
        if rows:
            self._row_bytes = size / rows
        # Not smoothed: the next list holds these same rows, and a few more.
        self._foreign_rows = float(max(0, rows - wanted))
        self._measured_at = now

    @property
    def list_seconds(self) -> float:
        """Seconds that a list takes, as far as is known."""
        return self._list_seconds

    def list_is_cheaper(self, wanted: int, now: float) -> bool:
        """Tell whether one list is cheaper than *wanted* GETs."""
        if wanted < 2:
            return False
        foreign, list_seconds = self._foreign_rows, self._list_seconds
        if self._measured_at is not None and now - self._measured_at > STALE:
            foreign, list_seconds = min(foreign, FOREIGN_ROWS), self._get_seconds
        gets = wanted * (REQUEST_BYTES + self._get_bytes + SECOND_BYTES * self._get_seconds)
        listing = REQUEST_BYTES + (wanted + foreign) * self._row_bytes + SECOND_BYTES * list_seconds
        return listing < gets
