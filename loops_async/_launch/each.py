"""`fleet.each()`: run work for each member as it comes up, and deactivate its sampler when the work has ended.

For example, three members and `concurrency=1`, where the second comes up first, and the third fails:

```text
member 0   creating ...... up, waits for its turn ......... work ....... deactivated → outcome
member 1   creating .. up, work ................ deactivated → outcome
member 2   creating ............ failed → outcome (its error)
```

- **Works start once.** All loops of a fleet share its members: a member that is up goes to the first loop that has
  room for one more work, and to no other loop. Every loop reports the members that failed.
- **Works start in the order of the specs**, among the members that are up at the same time. So what one poll shows is
  collected before the works start.
- **Works belong to the launch, not to the loop.** Each work has a task that waits for its end and then deactivates the
  sampler; the end of the block waits for these tasks. So a user may leave the loop by a plain `break`: Python deletes
  the iterator with its last reference, and the iterator then cancels its works.
- **A work that is cancelled may clean up**, for a limited time. After that its sampler is deactivated in any case.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Generic, Self, TypeVar

from attrs import frozen

from .._aio import spawn_shielded, wait_through_cancellation
from ..models import Sampler
from .member import Member

T = TypeVar("T")

CANCELLED_WORK_S: Final = 10.0
"""Seconds that a cancelled work may take to end, or half of the time of the teardown if that is shorter."""

DEACTIVATION_WAIT_S: Final = 2.0
"""Seconds for which an outcome, or the end of a loop, waits for a deactivation. A longer one goes on in the background,
and the end of the block waits for it."""


@frozen
class Outcome(Generic[T]):
    """The result of the work of one member.

    Attributes:
        member: The member.
        value: What the work returned; None if it failed.
        error: What the work raised, or why the member did not come up; None if the work returned. It is a RuntimeError
            if the work was cancelled, such as by the end of the block.
    """

    member: Member
    value: T | None = None
    error: Exception | None = None


class Works:
    """The works of one launch.

    Args:
        count: Number of members of the launch.
        deactivate: Called with a member whose work has ended; deactivates its sampler, unless it must stay.
        teardown_timeout: Seconds that the teardown of the launch may take.
    """

    def __init__(self, count: int, deactivate: Callable[[Member], Awaitable[None]], teardown_timeout: float) -> None:
        self._count = count
        self._deactivate = deactivate
        self._cancelled_work_s = min(CANCELLED_WORK_S, teardown_timeout / 2)
        self._ready: list[tuple[int, Member]] = []
        """Heap of the members that are up and whose work has not started, by their indices."""
        self._without_work: list[Outcome[Any]] = []
        """Outcomes of members whose work never starts; every loop yields them."""
        self._loops: list[_Loop[Any]] = []
        self._tasks: dict[Member, asyncio.Task[None]] = {}
        self._is_ended = False

    def on_done(self, member: Member) -> None:
        """Start the work of a member that has come up, in the first loop that has room for it."""
        if member.sampler is None:
            self._add_without_work(Outcome(member, None, member.error))
            self._dispatch()
            return
        heapq.heappush(self._ready, (member.index, member))
        # The tasks of other members that the same poll has shown to be up run before this.
        asyncio.get_running_loop().call_soon(self._dispatch)

    def task_of(self, member: Member) -> asyncio.Task[None] | None:
        """Return the task that waits for the work of *member* and then deactivates its sampler, if there is one."""
        return self._tasks.get(member)

    def end(self) -> None:
        """Start no further work, and cancel those that run."""
        self._is_ended = True
        for loop in self._loops:
            loop.cancel()
        self._dispatch()

    def open(self, loop: _Loop[T]) -> None:
        """Add *loop*, and start works in it."""
        self._loops.append(loop)
        loop.outcomes.extend(self._without_work)
        self._dispatch()

    def close(self, loop: _Loop[T]) -> None:
        """Cancel the works of *loop*. The members whose work has not started are left to other loops."""
        if loop in self._loops:
            self._loops.remove(loop)
        loop.cancel()
        loop.changed.set()
        self._dispatch()

    def is_exhausted(self, loop: _Loop[T]) -> bool:
        """Return True if *loop* gets no further outcome."""
        if loop.unfinished or self._ready:
            return False
        return len(self._without_work) + len(self._tasks) == self._count

    def _add_without_work(self, outcome: Outcome[Any]) -> None:
        self._without_work.append(outcome)
        for loop in self._loops:
            loop.outcomes.append(outcome)

    def _dispatch(self) -> None:
        if self._is_ended:
            while self._ready:
                error = RuntimeError("the block of the launch ended before the work of this member began")
                self._add_without_work(Outcome(heapq.heappop(self._ready)[1], None, error))
        for loop in self._loops:
            while self._ready and loop.has_room:
                member = heapq.heappop(self._ready)[1]
                loop.running.add(member)
                loop.unfinished.add(member)
                task = self._tasks[member] = spawn_shielded(self._run(loop, member))
                task.add_done_callback(_retrieve)
            loop.changed.set()

    async def _run(self, loop: _Loop[T], member: Member) -> None:
        """Run the work of *member*, and deactivate its sampler."""
        outcome: Outcome[T] = Outcome(member, None, RuntimeError("the task of this member's work broke off"))
        work = loop.start_work(member)
        timer: asyncio.TimerHandle | None = None
        try:
            events: list[asyncio.Future[Any]] = [work, loop.cancelled]
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait([work], timeout=self._cancelled_work_s)
            outcome = self._outcome_of(member, work)
            loop.running.discard(member)
            self._dispatch()
            timer = asyncio.get_running_loop().call_later(DEACTIVATION_WAIT_S, loop.finish, outcome)
            await self._deactivate(member)
        finally:
            if timer is not None:
                timer.cancel()
            if not work.done():
                work.cancel()
            loop.running.discard(member)
            loop.finish(outcome)

    def _outcome_of(self, member: Member, work: asyncio.Task[T]) -> Outcome[T]:
        if not work.done():
            words = f"its work was cancelled, and had not ended {self._cancelled_work_s:g} s later"
            return Outcome(member, None, RuntimeError(words))
        if work.cancelled():
            words = "the block of the launch ended before its work had" if self._is_ended else "its work was cancelled"
            return Outcome(member, None, RuntimeError(words))
        error = work.exception()
        if error is None:
            return Outcome(member, work.result())
        if isinstance(error, Exception):
            return Outcome(member, None, error)
        wrapped = RuntimeError(f"its work ended with {error!r}")
        wrapped.__cause__ = error
        return Outcome(member, None, wrapped)


class _Loop(Generic[T]):
    """The part of a loop that its works refer to. They must not refer to the iterator: it cancels them when its last
    reference is gone."""

    def __init__(self, work: Callable[[Sampler], Awaitable[T]], concurrency: int | None) -> None:
        self.event_loop = asyncio.get_running_loop()
        self.cancelled: asyncio.Future[None] = self.event_loop.create_future()
        """Done once the works must be cancelled."""
        self.running = set[Member]()
        """Members whose works have not ended."""
        self.unfinished = set[Member]()
        """Members whose works have started, and which have no outcome yet."""
        self.outcomes: deque[Outcome[T]] = deque()
        """Outcomes that the iterator has not yielded yet."""
        self.changed = asyncio.Event()
        """Set when there is something new for the iterator."""
        self._work = work
        self._concurrency = concurrency
        self._context = contextvars.copy_context()

    @property
    def has_room(self) -> bool:
        """Whether one more work may start."""
        if self.cancelled.done():
            return False
        return self._concurrency is None or len(self.running) < self._concurrency

    def start_work(self, member: Member) -> asyncio.Task[T]:
        """Start the work of *member*, with the context variables of the code that iterates."""
        name = f"loops-async-work-{member.index}"
        task = self.event_loop.create_task(self._call(member), name=name, context=self._context.copy())
        task.add_done_callback(_retrieve)
        return task

    def cancel(self) -> None:
        """Let the tasks of the running works cancel them."""
        if not self.cancelled.done():
            self.cancelled.set_result(None)

    def finish(self, outcome: Outcome[T]) -> None:
        """Give *outcome* to the iterator, unless it has one of this member."""
        if outcome.member in self.unfinished:
            self.unfinished.discard(outcome.member)
            self.outcomes.append(outcome)
            self.changed.set()

    async def wait_finished(self) -> None:
        """Wait until every work that has started has an outcome."""
        while self.unfinished:
            self.changed.clear()
            await self.changed.wait()

    async def _call(self, member: Member) -> T:
        assert member.sampler is not None  # noqa: S101 -- it has come up
        started = self._work(member.sampler)
        if not inspect.isawaitable(started):
            raise TypeError(f"work must be an async function that takes a Sampler, and returned {started!r:.100}")
        return await started


class WorkOutcomes(Generic[T]):
    """The async iterator that `fleet.each()` returns."""

    def __init__(self, works: Works, work: Callable[[Sampler], Awaitable[T]], concurrency: int | None) -> None:
        self._works = works
        self._work = work
        self._concurrency = concurrency
        self._loop: _Loop[T] | None = None
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome[T]:
        """Wait for the next outcome. The first call starts the works."""
        if self._is_closed:
            raise StopAsyncIteration
        if self._loop is None:
            self._loop = _Loop(self._work, self._concurrency)
            self._works.open(self._loop)
        loop = self._loop
        try:
            # Another task may close the loop, even while an outcome comes in.
            while self._is_closed or not loop.outcomes:
                if self._is_closed or self._works.is_exhausted(loop):
                    self._close_nowait()
                    raise StopAsyncIteration
                loop.changed.clear()
                await loop.changed.wait()
        except asyncio.CancelledError:
            # The caller leaves the loop. A cancellation would close an async generator, too.
            self._close_nowait()
            await wait_through_cancellation(spawn_shielded(loop.wait_finished()))
            raise
        return loop.outcomes.popleft()

    async def aclose(self) -> None:
        """Cancel the works that run, and wait until they have ended and their samplers are deactivated.

        A deactivation that takes longer than two seconds goes on in the background; the end of the block waits for it.
        A cancellation does not cut this short.
        """
        self._close_nowait()
        if self._loop is not None:
            cancelled = await wait_through_cancellation(spawn_shielded(self._loop.wait_finished()))
            if cancelled is not None:
                raise cancelled

    def __del__(self) -> None:
        loop = self._loop
        if loop is not None and not self._is_closed:
            # A `break` or an exception left the loop. This may run in any thread, and after the event loop was closed.
            with suppress(RuntimeError):
                loop.event_loop.call_soon_threadsafe(self._works.close, loop)

    def _close_nowait(self) -> None:
        self._is_closed = True
        if self._loop is not None:
            self._loop.outcomes.clear()
            self._works.close(self._loop)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception of a task that is reported in another way, or not needed, so that asyncio logs nothing."""
    if not task.cancelled():
        task.exception()
