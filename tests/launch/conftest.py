"""The event loops of these tests; see `tests.clock`."""

from ..clock import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
