"""The rate limit of the control plane, as its documentation publishes it; no I/O.

Each key has its own count for each endpoint (a method and a route), in fixed windows: a window begins with the first
request and lasts one second. Requests beyond the limit are rejected until it ends.
"""

import math
from typing import Final

from attrs import define

WINDOW_SECONDS: Final = 1.0

# Without a limit the memory would grow for ever, since an emulator may accept any key.
_WINDOWS_KEPT: Final = 1024

_Endpoint = tuple[str, str, str]


@define
class _Window:
    ends: float
    count: int = 0


class RateLimit:
    """Counts requests; times are readings of one monotonic clock, in seconds."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._windows: dict[_Endpoint, _Window] = {}

    def retry_after(self, key: str, method: str, route: str, now: float) -> int | None:
        """Count a request; return None if it may pass, else the whole seconds until the next one may."""
        if self._limit is None:
            return None
        endpoint = key, method, route
        window = self._windows.get(endpoint)
        if window is None or window.ends <= now:
            if len(self._windows) >= _WINDOWS_KEPT:
                self._windows = {each: kept for each, kept in self._windows.items() if kept.ends > now}
            window = self._windows[endpoint] = _Window(now + WINDOW_SECONDS)
        if window.count + 1 > self._limit:
            return max(1, math.ceil(window.ends - now))
        window.count += 1
        return None
