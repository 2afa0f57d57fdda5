"""Which poll is cheaper: a GET for each sampler, or one list of all.

The list has no pages, and also holds inactive samplers and others that no wait is about. Its cost is not known
beforehand: it is measured, and compared at every tick. A launch of hundreds is polled by lists; the last few of them,
in an account with thousands of inactive samplers, are polled by GET.

Bytes are the common unit. A request and a second of waiting are counted as so many bytes of a list.
"""

from __future__ import annotations

from typing import Final

BYTES_PER_REQUEST: Final = 48 * 1024
"""Bytes of a list that cost as much as one request.

For the CPU of client and server, a request costs about as much as a hundred rows; for the network, as much as two. This
is the CPU's rate: a client with many waits is short of CPU long before it is short of network.
"""

BYTES_PER_SECOND: Final = 256 * 1024
"""Bytes of a list that cost as much as one second of waiting for an answer, which a service needs if lists are hard to
make for it."""

ASSUMED_GET_BYTES: Final = 600.0
"""Size in bytes of an answer about one sampler, until the first was seen; a row of a list is about as large."""

ASSUMED_FOREIGN_ROWS: Final = 500.0
"""Number of rows of a list that no wait is about, until the first list was seen."""

SMOOTHING: Final = 0.5
"""Weight of the newest measurement against the earlier ones, from 0 to 1."""

LIST_COST_TTL_S: Final = 600.0
"""Seconds for which the measured cost of a list is valid; a list that was found expensive is then tried again."""


class PollCosts:
    """The measured costs of one client's polls. Times are in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._get_bytes = ASSUMED_GET_BYTES
        self._row_bytes = ASSUMED_GET_BYTES
        self._foreign_rows = ASSUMED_FOREIGN_ROWS
        self._get_seconds = 0.0
        self._list_seconds = 0.0
        self._measured_at: float | None = None

    def record_get(self, size: int, seconds: float) -> None:
        """Record an answer about one sampler: its *size* in bytes, and the *seconds* that it took."""
        self._get_bytes += SMOOTHING * (size - self._get_bytes)
        self._get_seconds += SMOOTHING * (seconds - self._get_seconds)

    def record_list(self, size: int, rows: int, wanted: int, seconds: float, now: float) -> None:
        """Record a list: its *size* in bytes, its *rows*, how many of them were *wanted*, and the *seconds* it took."""
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
        """Return True if one list is cheaper than *wanted* GETs."""
        if wanted < 2:
            return False
        foreign, list_seconds = self._foreign_rows, self._list_seconds
        if self._measured_at is not None and now - self._measured_at > LIST_COST_TTL_S:
            foreign, list_seconds = min(foreign, ASSUMED_FOREIGN_ROWS), self._get_seconds
        gets = wanted * (BYTES_PER_REQUEST + self._get_bytes + BYTES_PER_SECOND * self._get_seconds)
        listing = BYTES_PER_REQUEST + (wanted + foreign) * self._row_bytes + BYTES_PER_SECOND * list_seconds
        return listing < gets
