"""One status source for all waits of a client.

Rules:

- One task polls, and it lives only while somebody waits: the first to join starts it, the last to leave awaits its
  end. The requests of a tick are children of that task, so that a slow answer holds up nobody else's.
- Samplers are asked for by id, however many waits share one. Each has its own time of the next look; those that
  fall due at about the same time go in one tick.
- An answer counts only for the waits that had joined when its request was made. Who joins while a poll is in flight
  is served by the next one. Answers about one sampler that overtake each other are put in order by their requests.
- A poll that fails is repeated, later and later, until the waits give up by themselves. Only 401 and 403 go to all
  waits at once, since no further poll can succeed.
- A wait tells the source what it makes of an answer by its return value, and is never called again after it said
  that it is settled.

The loop itself (run, pause, stop) is tenacity's, the pause being the time until the next look falls due.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from ._policy import PollPolicy
from ._shield import outlast
from .errors import APIError, AuthenticationError, LoopsError, PermissionDeniedError
from .models import DeploymentStatus, Sampler

logger = logging.getLogger("loops_async")

SLACK: Final = 0.1
"""Part of the pause by which a look may come early to share a tick with others."""


class StatusReads(Protocol):
    """What the source asks of a client."""

    async def one(self, sampler_id: str, *, last_look: bool) -> Sampler:
        """Ask once for one sampler."""
        ...

    async def wake(self, sampler: Sampler) -> None:
        """Wake a sampler."""
        ...


class Watcher(Protocol):
    """A wait, as the source sees it. Times are the event loop's."""

    policy: PollPolicy
    joined: float
    deadline: float
    """Time of the last look; infinity for none."""

    def due_by(self) -> float:
        """Return the time by which a look is needed whatever the schedule says; infinity for none."""
        ...

    def seen(self, sampler: Sampler, requested: float, now: float) -> bool:
        """Take an answer; return True if the wait is settled."""
        ...

    def missed(self, error: Exception, requested: float, now: float) -> bool:
        """Take a failure; return True if the wait is settled."""
        ...

    def noted(self, error: Exception) -> None:
        """Take a trouble that does not settle anything, such as a wake that failed."""
        ...

    def abandoned(self, error: Exception) -> None:
        """Take the end of the source; the wait is settled."""
        ...


class _Entry:
    """One sampler that is waited for."""

    __slots__ = ("answered", "asking", "due", "early", "hurried", "looks", "sampler_id", "status", "watchers", "woken")

    def __init__(self, sampler_id: str, now: float) -> None:
        self.sampler_id = sampler_id
        self.watchers: list[Watcher] = []
        self.due = now
        self.early = 0.0
        self.looks = 0
        self.status: str | None = None
        self.asking = False
        self.hurried = False
        self.answered = -math.inf
        self.woken = False


class StatusSource:
    """Poll the statuses that somebody waits for, and tell those who wait."""

    def __init__(self, reads: StatusReads) -> None:
        self._reads = reads
        self._entries: dict[str, _Entry] = {}
        self._task: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.Future[None] | None = None
        self._alarm_at = math.inf
        self._strange: set[str] = set()

    def join(self, sampler_id: str, watcher: Watcher) -> None:
        """Take *watcher* in; it is told of every answer about *sampler_id* from the next poll on."""
        loop = asyncio.get_running_loop()
        entry = self._entries.get(sampler_id)
        if entry is None:
            entry = self._entries[sampler_id] = _Entry(sampler_id, loop.time())
        entry.watchers.append(watcher)
        entry.due = min(entry.due, loop.time())
        if self._task is None:
            # The poll serves everybody: it must not run in the context of whoever came first.
            self._task = loop.create_task(self._run(), name="loops-async-poll", context=contextvars.Context())
        self._ring()

    async def leave(self, sampler_id: str, watcher: Watcher) -> None:
        """Let *watcher* go, settled or not; the last one to go stays until the polling has ended."""
        entry = self._entries.get(sampler_id)
        if entry is not None and watcher in entry.watchers:
            entry.watchers.remove(watcher)
            self._drop_if_idle(entry)
        await self._settle_down()

    def hurry(self, sampler_id: str) -> None:
        """Take a last look at *sampler_id* now, past every pause and whatever is already asked."""
        entry = self._entries.get(sampler_id)
        if entry is not None:
            entry.hurried = True
            self._ring()

    async def aclose(self) -> None:
        """End every wait that is left."""
        self._abandon(RuntimeError("the LoopsClient was closed while this wait was on"))
        await self._settle_down()

    async def _settle_down(self) -> None:
        task = self._task
        if task is None or self._entries:
            return
        self._task = None
        task.cancel()
        cancelled = await outlast(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("polling ended with an error after the last wait had gone", exc_info=error)
        if cancelled is not None:
            raise cancelled

    def _drop_if_idle(self, entry: _Entry) -> None:
        # A late answer to waits that have gone must not take the entry of those that came after them.
        if not entry.watchers and self._entries.get(entry.sampler_id) is entry:
            del self._entries[entry.sampler_id]
            if not self._entries:
                self._ring()

    def _abandon(self, error: Exception) -> None:
        entries = list(self._entries.values())
        self._entries.clear()
        for entry in entries:
            for watcher in entry.watchers:
                watcher.abandoned(error)

    async def _run(self) -> None:
        me = asyncio.current_task()
        # Another run may have begun before this one has ended: each cancels the requests of its own.
        requests: set[asyncio.Task[None]] = set()
        self._requests = requests
        polling = AsyncRetrying(
            retry=retry_if_result(bool), wait=self._until_next_look, sleep=self._sleep, reraise=True
        )
        try:
            await polling(self._tick)
        except Exception as exc:
            # A defect of this module must not leave waits that hang for ever.
            self._abandon(exc)
            raise
        except asyncio.CancelledError:
            if self._task is me:
                self._abandon(RuntimeError("the polling task was cancelled from outside"))
            raise
        finally:
            if self._task is me:
                self._task = None
            for request in requests:
                request.cancel()
            if requests:
                await asyncio.wait(requests)

    def _until_next_look(self, _: RetryCallState) -> float:
        now = asyncio.get_running_loop().time()
        due = (now if entry.hurried else math.inf if entry.asking else entry.due for entry in self._entries.values())
        return max(0.0, min(due, default=math.inf) - now)

    async def _sleep(self, seconds: float) -> None:
        """Sleep until *seconds* are over or somebody rings."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        alarm = self._alarm = loop.create_future()
        self._alarm_at = loop.time() + seconds
        timer = None if math.isinf(seconds) else loop.call_later(seconds, self._ring)
        try:
            await alarm
        finally:
            if self._alarm is alarm:
                self._alarm = None
            if timer is not None:
                timer.cancel()

    def _ring(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    async def _tick(self) -> bool:
        """Ask for all samplers that are due; return whether anybody still waits."""
        now = asyncio.get_running_loop().time()
        for entry in self._entries.values():
            if entry.hurried:
                entry.hurried = False
                self._spawn(self._look(entry, last_look=True))
            elif not entry.asking and entry.due - entry.early <= now:
                entry.asking = True
                self._spawn(self._look(entry, last_look=False))
        return bool(self._entries)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        requests = self._requests
        requests.add(task)
        task.add_done_callback(requests.discard)
        task.add_done_callback(self._check)

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._abandon(error if isinstance(error, Exception) else RuntimeError(f"polling broke off: {error!r}"))

    async def _look(self, entry: _Entry, *, last_look: bool) -> None:
        loop = asyncio.get_running_loop()
        requested = loop.time()
        try:
            sampler = await self._reads.one(entry.sampler_id, last_look=last_look)
        except LoopsError as exc:
            self._miss(entry, exc, requested)
        except Exception as exc:  # noqa: BLE001 -- a defect, or a session that the caller closed: no use in going on
            self._abandon_one(entry, exc)
        else:
            self._deliver(entry, sampler, requested)
        if not last_look:
            entry.asking = False
        self._reschedule(entry, requested)
        self._drop_if_idle(entry)
        if entry.due < self._alarm_at:
            self._ring()

    def _deliver(self, entry: _Entry, sampler: Sampler, requested: float) -> None:
        if requested < entry.answered:
            return
        entry.answered = requested
        now = asyncio.get_running_loop().time()
        if sampler.status != entry.status:
            entry.status, entry.looks = sampler.status, 0
            entry.woken = False
        entry.looks += 1
        waiting = entry.watchers
        entry.watchers = []
        for watcher in waiting:
            if watcher.joined > requested or not watcher.seen(sampler, requested, now):
                entry.watchers.append(watcher)
        self._warn_if_strange(entry)
        if (
            sampler.status == DeploymentStatus.SCALED_TO_ZERO
            and not entry.woken
            and any(watcher.policy.wake for watcher in entry.watchers)
        ):
            entry.woken = True
            self._spawn(self._wake(entry, sampler))

    def _miss(self, entry: _Entry, error: LoopsError, requested: float) -> None:
        if requested < entry.answered:
            return
        now = asyncio.get_running_loop().time()
        entry.looks += 1
        everybody = isinstance(error, (AuthenticationError, PermissionDeniedError))
        for concerned in list(self._entries.values()) if everybody else [entry]:
            concerned.watchers = [
                watcher
                for watcher in concerned.watchers
                if watcher.joined > requested or not watcher.missed(error, requested, now)
            ]
            self._drop_if_idle(concerned)

    def _abandon_one(self, entry: _Entry, error: Exception) -> None:
        watchers, entry.watchers = entry.watchers, []
        for watcher in watchers:
            watcher.abandoned(error)

    def _reschedule(self, entry: _Entry, requested: float) -> None:
        now = asyncio.get_running_loop().time()
        if any(watcher.joined > requested for watcher in entry.watchers):
            entry.due, entry.early = now, 0.0
            return
        status = entry.status if entry.answered == requested else None
        policies = {id(watcher.policy): watcher.policy for watcher in entry.watchers}.values()
        pause = min((policy.pause(entry.looks, status) for policy in policies), default=math.inf)
        entry.due = min(now + pause, *(watcher.due_by() for watcher in entry.watchers), math.inf)
        entry.early = SLACK * max(0.0, entry.due - now)

    async def _wake(self, entry: _Entry, sampler: Sampler) -> None:
        try:
            await self._reads.wake(sampler)
        except (LoopsError, ValueError) as exc:
            # It may wake up by itself, as new deployments do: the wait goes on, and tells of this if it fails.
            logger.warning("sampler %s is scaled to zero and could not be woken: %s", sampler.id, exc)
            for watcher in entry.watchers:
                watcher.noted(exc)
            refused = isinstance(exc, ValueError) or (isinstance(exc, APIError) and exc.status < 500)
            if not refused:
                entry.woken = False

    def _warn_if_strange(self, entry: _Entry) -> None:
        status = entry.status
        if status is None or isinstance(status, DeploymentStatus) or status in self._strange:
            return
        if any(status in watcher.policy.ready | watcher.policy.failed for watcher in entry.watchers):
            return
        self._strange.add(status)
        logger.warning("sampler %s has the unknown status %r; waiting on", entry.sampler_id, status)
