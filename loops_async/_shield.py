"""Work that a cancellation must not cut short.

`asyncio.shield` alone is not enough: it lets the caller go at once, so nobody is left to look after the result.
Here the caller stays until the work is done, however often it is cancelled, and then goes on being cancelled.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

T = TypeVar("T")


def protected(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start *work* as a task that the end of `asyncio.run()` does not cancel; `outlast()` must await it.

    When its main coroutine is over, `asyncio.run()` cancels all the tasks that it can list, and would so cut off the
    inner half of something whose outer half was about to wait for it. It still runs the loop until every task that it
    cancelled is done, and with the outer half this one is, too.
    """
    task = asyncio.get_running_loop().create_task(work)
    # Documented for makers of task classes; it only takes the task out of asyncio.all_tasks().
    asyncio._unregister_task(task)
    return task


async def outlast(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until *task* is done, through any number of cancels; return the first of them.

    The task's own outcome is left for the caller to look at. A cancellation that is returned must be raised again.
    """
    cancelled: asyncio.CancelledError | None = None
    with _level_cancellation_shielded():
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                cancelled = cancelled or exc
    return cancelled


def _level_cancellation_shielded() -> AbstractContextManager[object]:
    """Hold off the cancel scopes of anyio, if it is in use.

    They cancel a task anew at each turn of the event loop until it has left the scope, which would keep a core busy for
    as long as the work takes. What they have to say is heard at the first await afterwards.
    """
    scope = getattr(sys.modules.get("anyio"), "CancelScope", None)
    return nullcontext() if scope is None else scope(shield=True)
