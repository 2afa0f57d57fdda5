"""Report an outage once, and its end: while polls fail, a wait is silent until its deadline."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime, timedelta
from typing import Final

logger = logging.getLogger("loops_async")

OUTAGE_WARNING_AFTER_S: Final = 10.0
"""Seconds for which all polls must have failed before that is worth a warning."""


class Outage:
    """The time in which no poll has succeeded. Times are the event loop's."""

    def __init__(self) -> None:
        self._since = math.inf
        self._last_error: Exception | None = None
        self.report_at = math.inf
        """Time at which `report()` should be called; infinity if there is nothing to report."""

    def record_failure(self, error: Exception, requested: float) -> None:
        """Record a poll that failed, and when it was *requested*."""
        self._last_error = error
        if self._since == math.inf:
            self._since = requested
            self.report_at = requested + OUTAGE_WARNING_AFTER_S

    def record_success(self, now: float) -> None:
        """Record a poll that succeeded."""
        if self._since < math.inf:
            if self.report_at == math.inf:
                logger.info("polls work again, after %.0f s of failures", now - self._since)
            self._since = self.report_at = math.inf
            self._last_error = None

    def report(self, now: float) -> None:
        """Warn if polls have failed for long enough and no warning was written yet."""
        if self.report_at <= now:
            self.report_at = math.inf
            seconds = now - self._since
            began = datetime.now(UTC) - timedelta(seconds=seconds)
            logger.warning(
                "all polls have failed since %s (%.0f s); waits go on. The last failure: %s",
                began.strftime("%Y-%m-%dT%H:%M:%SZ"),
                seconds,
                self._last_error,
            )
