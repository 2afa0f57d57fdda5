"""An event loop for tests that wait for timers: what they wait passes twenty times as fast.

Its clock runs as usual while there is something to do. While there is nothing, it runs `FACTOR` times as fast as the
clock on the wall, up to the next timer and not beyond it: a timer is never late because the machine is busy. Sockets
have time to deliver all the same, so that both ends of a connection can be in the test.

A test that is marked with `quick_clock` runs on it, unless it is marked with `usual_clock` as well; its folder's
`conftest.py` imports the hook below. It is not for tests of what has another clock, such as a process, a thread, or the
lifecycle of an emulated sampler.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

FACTOR: Final = 20


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs faster while it waits."""

    def __init__(self) -> None:
        self._gained = 0.0
        """Seconds by which its clock is ahead."""
        super().__init__(_QuickSelector(self))

    def time(self) -> float:
        return super().time() + self._gained

    def gain(self, seconds: float) -> None:
        """Put the clock forward."""
        self._gained += seconds


class _QuickSelector(selectors.DefaultSelector):
    def __init__(self, loop: QuickLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        began = self._loop.time()
        ready = super().select(timeout / FACTOR)
        spent = self._loop.time() - began
        self._loop.gain(max(0.0, min(spent * FACTOR, timeout) - spent))
        return ready


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return what makes the event loop of a test; a pytest-asyncio that is too old to ask makes its usual one."""
    if item.get_closest_marker("quick_clock") and not item.get_closest_marker("usual_clock"):
        return {"quick clock": QuickLoop}
    return {"usual clock": asyncio.new_event_loop}
