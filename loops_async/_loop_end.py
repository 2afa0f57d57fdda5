"""Closing a client with the event loop that it was used in, for somebody who is outside of that loop.

A pytest fixture makes its client before there is a loop, and gives it up when the loop may be running, idle or gone;
and once a loop is closed, the sockets in it cannot be closed any more. What a loop does offer is to finish the
asynchronous generators that were begun in it: `asyncio.run()`, `asyncio.Runner` and all test runners on top of them
see to that before they close it. So the client is closed at the end of such a generator.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from collections.abc import AsyncGenerator
from typing import Final

from ._client import LoopsClient

PATIENCE: Final = 30.0
"""Seconds for which a loop that runs in another thread is waited for."""


class LoopEnd:
    """Close a client with the loop that it belongs to, or earlier by `close()`, which no loop is needed for."""

    def __init__(self, client: LoopsClient) -> None:
        self._client = client
        self._loop: asyncio.AbstractEventLoop | None = None
        # The loop has but a weak reference.
        self._end: AsyncGenerator[None] = self._until_the_end()
        client._transport.on_open = self._begin

    async def _until_the_end(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self._client.aclose()

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        with contextlib.suppress(StopIteration):
            # Up to the `yield`, for which it waits for nothing.
            anext(self._end).__await__().send(None)

    def close(self) -> None:
        """Close the client, unless it was never used, or is closed already."""
        if self._loop is None:
            return
        if self._loop.is_closed():
            self._bury()
            return
        if not self._loop.is_running():
            self._loop.run_until_complete(self._end.aclose())
            return
        closing = asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop)
        closing.result(PATIENCE)

    def _bury(self) -> None:
        """Give the sockets back that were left in a loop which somebody closed without finishing its generators.

        The transports of a closed loop cannot be closed, only collected; and if that were left to chance, the warning
        about it would meet whatever test runs then.
        """
        session = self._client._transport._session
        if session is None or session.closed:
            return
        # What others have left is for them to be told of, and in this test.
        gc.collect()
        with contextlib.suppress(StopIteration):
            # There is nothing to wait for in a closed loop.
            session.close().send(None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
