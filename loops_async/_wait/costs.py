"""What a poll costs, by plan: a GET for each sampler, or one list for all.

The list has no pages and holds dead and foreign samplers too, so its price is not known beforehand: it is measured,
and the cheaper plan is chosen anew at every poll. A launch of hundreds is polled by lists; its last few stragglers in
an account with thousands of dead samplers are asked for one by one.
"""

from __future__ import annotations

from typing import Final

BYTES_PER_REQUEST: Final = 48 * 1024
"""What one request is worth in bytes of a list.

For the CPU of both sides a request costs about as much as a hundred rows, for the network as much as two. This is
the CPU's rate, since a client that waits for many is short of CPU long before it is short of network.
"""

BYTES_PER_SECOND: Final = 256 * 1024
"""What one second of waiting for an answer is worth in bytes: it tells of a service that finds lists hard to make."""

ASSUMED_GET_BYTES: Final = 600.0
"""Bytes of an answer about one sampler, until the first is seen; a row of a list has about as many."""

ASSUMED_FOREIGN_ROWS: Final = 500.0
"""Rows about others that a list is thought to hold, until the first is seen."""

SMOOTHING: Final = 0.5
"""How much the newest measurement counts against those before it."""

LIST_COST_TTL_S: Final = 600.0
"""Seconds after which a list that was found dear is looked at once more."""


class PollCosts:
    """The measured prices of one client's polls. Times are in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._get_bytes = ASSUMED_GET_BYTES
        self._row_bytes = ASSUMED_GET_BYTES
        self._foreign_rows = ASSUMED_FOREIGN_ROWS
        self._get_seconds = 0.0
        self._list_seconds = 0.0
        self._measured_at: float | None = None

    def record_get(self, size: int, seconds: float) -> None:
        """Learn from an answer about one sampler, of *size* bytes, that took *seconds*."""
        self._get_bytes += SMOOTHING * (size - self._get_bytes)
        self._get_seconds += SMOOTHING * (seconds - self._get_seconds)

    def record_list(self, size: int, rows: int, wanted: int, seconds: float, now: float) -> None:
        """Learn from a list of *size* bytes and *rows* rows, *wanted* of which were waited for; it took *seconds*."""
        self._list_seconds += SMOOTHING * (seconds - self._list_seconds)
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
        if self._measured_at is not None and now - self._measured_at > LIST_COST_TTL_S:
            foreign, list_seconds = min(foreign, ASSUMED_FOREIGN_ROWS), self._get_seconds
        gets = wanted * (BYTES_PER_REQUEST + self._get_bytes + BYTES_PER_SECOND * self._get_seconds)
        listing = BYTES_PER_REQUEST + (wanted + foreign) * self._row_bytes + BYTES_PER_SECOND * list_seconds
        return listing < gets
