"""One status source for all waits of a client.

Rules:

- One task polls, and it lives only while somebody waits: the first to join starts it, the last to leave awaits its
  end. The requests of a tick are children of that task, so that a slow answer holds up nobody else's.
- Each sampler that is waited for is one entry, however many waits share it. An entry falls due by the keenest policy
  of its waits; a tick takes all that are due or nearly so, and asks for them by a GET each or by one list, whichever
  is cheaper. A list serves all entries, due or not, and so draws their next looks together.
- What a list does not show is asked for by GET. Absence alone means nothing: lists lag, and show the caller's own.
- An answer counts only for the waits that had joined when its request was made. Who joins while a poll is in flight
  is served by the next one. Answers that overtake each other are put in order by their requests.
- A poll that fails is repeated, later and later, until the waits give up by themselves. Only 401 and 403 go to all
  waits at once, since no further poll can succeed.
- A wait tells the source what it makes of an answer by its return value, and is not called again once it is settled.
  It is given the status, and builds the sampler only if it needs it.

The loop itself (run, pause, stop) is tenacity's, the pause being the time until something falls due.

What it costs: for a status that did not change, a look-up and a comparison; for a wait, its entry and nothing that
the event loop knows of. Lists are read in slices, so that ten thousand waits that settle at once do not stop the
loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from ._policy import PollPolicy
from ._prices import Prices
from ._shield import outlast
from .errors import APIError, AuthenticationError, DecodeError, LoopsError, PermissionDeniedError
from .models import DeploymentStatus, Sampler

logger = logging.getLogger("loops_async")

SLACK: Final = 0.1
"""Part of the smallest `initial` by which a look may come early to share a tick with others."""

JOINING: Final = 0.5
"""Part of `initial` after a tick for which those who join are gathered, lest each of a burst of creates is a tick."""

CROWD: Final = 10
"""Number of samplers from which on the last stages are polled no faster than by `initial`."""

GRID: Final = 8
"""Ticks at most in `initial` seconds, once there is a crowd."""

SLICE: Final = 0.005
"""Seconds for which an answer is worked on before the event loop gets its turn."""

FEW: Final = 8
"""Samplers that are asked for one by one rather than wait for the end of a list that is in flight."""


class Row(Protocol):
    """What a list shows of a sampler without being read whole."""

    id: str

    @property
    def status(self) -> RowStatus: ...


class RowStatus(Protocol):
    """The status of a row; an empty name where it cannot be read."""

    name: str


class Listing(Protocol):
    """A list of samplers, read as far as needed."""

    @property
    def rows(self) -> Sequence[Any]: ...

    @property
    def size(self) -> int: ...

    def sampler(self, index: int) -> Sampler: ...


class StatusReads(Protocol):
    """What the source asks of a client."""

    async def one(self, sampler_id: str, *, last_look: bool) -> tuple[Sampler, int]:
        """Ask once for one sampler; return it and the size of the answer."""
        ...

    async def all(self, *, last_look: bool) -> Listing:
        """Ask once for all samplers."""
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

    def seen(self, status: str, sampler: Callable[[], Sampler], requested: float, now: float) -> bool:
        """Take a status, and the sampler if it is needed; return True if the wait is settled."""
        ...

    def missed(self, error: Exception, requested: float, now: float) -> bool:
        """Take a failure; return True if the wait is settled."""
        ...

    def noted(self, error: Exception) -> None:
        """Take a trouble that does not settle anything, such as a wake that failed."""
        ...

    def expired(self) -> None:
        """Take that the last look is being taken."""
        ...

    def abandoned(self, error: Exception) -> None:
        """Take the end of the source; the wait is settled."""
        ...


class _Pace:
    """How the entries of one policy and status fall due after a list, which serves them all at once."""

    __slots__ = ("due", "newest", "policy", "status")

    def __init__(self, policy: PollPolicy, status: str | None, now: float) -> None:
        self.policy = policy
        self.status = status
        self.newest = now
        """When the last of them came to this status: the keenest look sets the pace."""
        self.due = now


class _Entry:
    """One sampler that is waited for."""

    __slots__ = (
        "asking",
        "changed_at",
        "deadline",
        "due",
        "failures",
        "keen",
        "pace",
        "sampler_id",
        "served_at",
        "status",
        "unlisted",
        "watchers",
        "woken",
    )

    def __init__(self, sampler_id: str, due: float, pace: _Pace) -> None:
        self.sampler_id = sampler_id
        self.watchers: tuple[Watcher, ...] = ()
        self.pace = pace
        self.status: str | None = None
        self.changed_at = due
        self.served_at = -math.inf
        self.due = due
        self.deadline = math.inf
        self.failures = 0
        self.asking = False
        self.unlisted = False
        self.woken: asyncio.Task[None] | None = None
        # Whether an answer must be shown to the waits even if the status is the same as before.
        self.keen = True


class _Item:
    """An item of a list, read when it is first needed and not again."""

    __slots__ = ("_index", "_listing", "_sampler")

    def __init__(self, listing: Listing, index: int) -> None:
        self._listing = listing
        self._index = index
        self._sampler: Sampler | None = None

    def __call__(self) -> Sampler:
        if self._sampler is None:
            self._sampler = self._listing.sampler(self._index)
        return self._sampler


class StatusSource:
    """Poll the statuses that somebody waits for, and tell those who wait."""

    def __init__(self, reads: StatusReads) -> None:
        self._reads = reads
        self._prices = Prices()
        self._paces: dict[tuple[PollPolicy, str | None], _Pace] = {}
        self._entries: dict[str, _Entry] = {}
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._listing = False
        self._ticked_at = -math.inf
        self._step = math.inf
        self._alarm: asyncio.Future[None] | None = None
        self._alarm_at = math.inf
        self._alarm_timer: asyncio.TimerHandle | None = None
        self._strange: set[str] = set()

    def join(self, sampler_id: str, watcher: Watcher) -> None:
        """Take *watcher* in; it is told of every answer about *sampler_id* from the next poll on."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        if self._entries:
            due = max(due, self._ticked_at + JOINING * watcher.policy.initial)
        entry = self._entries.get(sampler_id)
        if entry is None:
            entry = self._entries[sampler_id] = _Entry(sampler_id, due, self._pace(watcher.policy, None, due))
        elif watcher.policy.initial < entry.pace.policy.initial:
            entry.pace = self._pace(watcher.policy, entry.status, due)
        entry.watchers = (*entry.watchers, watcher)
        entry.keen = True
        # What is in flight for this sampler tells the new wait nothing, and may hang.
        entry.asking = False
        entry.due = min(entry.due, due)
        entry.deadline = min(entry.deadline, watcher.deadline)
        self._step = min(self._step, watcher.policy.initial)
        if self._task is None:
            # The poll serves everybody: it must not run in the context of whoever came first.
            self._task = loop.create_task(self._run(), name="loops-async-poll", context=contextvars.Context())
        self._ring_at(min(entry.due, entry.deadline))

    async def leave(self, sampler_id: str, watcher: Watcher) -> None:
        """Let *watcher* go, settled or not; the last one to go stays until the polling has ended."""
        entry = self._entries.get(sampler_id)
        if entry is not None and watcher in entry.watchers:
            entry.watchers = tuple(each for each in entry.watchers if each is not watcher)
            self._drop_if_idle(entry)
        if not self._entries:
            await self._settle_down()

    async def aclose(self) -> None:
        """End every wait that is left."""
        self._abandon(RuntimeError("the LoopsClient was closed while this wait was on"))
        await self._settle_down()

    async def _settle_down(self) -> None:
        task = self._task or self._ending
        if task is None:
            return
        if task is self._task:
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
                self._ring_at(-math.inf)

    def _abandon(self, error: Exception) -> None:
        entries = list(self._entries.values())
        self._entries.clear()
        self._ring_at(-math.inf)
        for entry in entries:
            for watcher in entry.watchers:
                watcher.abandoned(error)

    # The loop

    async def _run(self) -> None:
        me: asyncio.Task[None] | None = asyncio.current_task()
        # Another run may have begun before this one has ended: each cancels the requests of its own.
        requests: set[asyncio.Task[None]] = set()
        self._requests = requests
        self._listing = False
        self._paces = {key: pace for key, pace in self._paces.items() if pace.status is None}
        self._step = min((pace.policy.initial for pace in self._paces.values()), default=math.inf)
        polling = AsyncRetrying(
            retry=retry_if_result(bool), wait=self._until_next_tick, sleep=self._sleep, reraise=True
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
            self._ending = me
            for request in requests:
                request.cancel()
            if requests:
                await asyncio.wait(requests)
            if self._ending is me:
                self._ending = None

    async def _tick(self) -> bool:
        """Ask for all samplers that are due; return whether anybody still waits."""
        now = self._ticked_at = asyncio.get_running_loop().time()
        horizon = now + SLACK * self._step
        late: list[_Entry] = []
        due: list[_Entry] = []
        upcoming = math.inf
        for entry in self._entries.values():
            if entry.deadline <= now:
                late.append(entry)
                continue
            upcoming = min(upcoming, entry.deadline)
            if not entry.asking:
                if entry.due <= horizon:
                    due.append(entry)
                elif entry.due < upcoming:
                    upcoming = entry.due
        self._alarm_at = upcoming
        if late:
            for entry in late:
                entry.due = math.inf
                self._expire(entry, now)
            self._ask(late, now, last_look=True)
        if due and not (self._listing and len(due) > FEW):
            for entry in due:
                entry.asking = True
            self._ask(due, now, last_look=False)
        return bool(self._entries)

    def _expire(self, entry: _Entry, now: float) -> None:
        entry.keen = True
        entry.deadline = math.inf
        for watcher in entry.watchers:
            if watcher.deadline <= now:
                watcher.expired()
            else:
                entry.deadline = min(entry.deadline, watcher.deadline)
        self._alarm_at = min(self._alarm_at, entry.deadline)

    def _until_next_tick(self, _: RetryCallState) -> float:
        return max(0.0, self._alarm_at - asyncio.get_running_loop().time())

    async def _sleep(self, seconds: float) -> None:
        """Sleep until *seconds* are over or the alarm, which may be moved meanwhile, rings."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        alarm = self._alarm = loop.create_future()
        self._set_timer(loop)
        try:
            await alarm
        finally:
            if self._alarm is alarm:
                self._alarm = None
                if self._alarm_timer is not None:
                    self._alarm_timer.cancel()
                    self._alarm_timer = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._alarm_timer is not None:
            self._alarm_timer.cancel()
        finite = self._alarm_at < math.inf
        self._alarm_timer = loop.call_at(max(self._alarm_at, loop.time()), self._ring) if finite else None

    def _ring_at(self, time: float) -> None:
        """Have the next tick at *time* at the latest."""
        if time < self._alarm_at:
            self._alarm_at = time
            if self._alarm is not None:
                self._set_timer(asyncio.get_running_loop())

    def _ring(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    # The requests

    def _ask(self, entries: list[_Entry], now: float, *, last_look: bool) -> None:
        """Ask for *entries* by the cheaper plan."""
        listed = [entry for entry in entries if not entry.unlisted]
        if self._prices.list_is_cheaper(len(listed), now) and (last_look or not self._listing):
            self._spawn(self._sweep(listed, now, last_look=last_look))
            entries = [entry for entry in entries if entry.unlisted]
        for entry in entries:
            self._spawn(self._look(entry, now, last_look=last_look))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        requests = self._requests
        requests.add(task)
        task.add_done_callback(requests.discard)
        task.add_done_callback(self._check)
        return task

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._abandon(error if isinstance(error, Exception) else RuntimeError(f"polling broke off: {error!r}"))

    async def _look(self, entry: _Entry, requested: float, *, last_look: bool) -> None:
        """Ask for one sampler by its id."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            sampler, size = await self._reads.one(entry.sampler_id, last_look=last_look)
        except LoopsError as exc:
            self._miss([entry], exc, requested)
        except Exception as exc:  # noqa: BLE001 -- a defect, or a session that the caller closed: no use in going on
            self._give_up([entry], exc)
        else:
            now = loop.time()
            self._prices.saw_get(size, now - began)
            self._serve(entry, sampler.status, lambda: sampler, requested, now)
        if not last_look:
            entry.asking = False
        self._reschedule(entry, requested, random.random())  # noqa: S311

    async def _sweep(self, entries: list[_Entry], requested: float, *, last_look: bool) -> None:
        """Ask for *entries* by a list, and serve everybody with it."""
        if not last_look:
            self._listing = True
        loop = asyncio.get_running_loop()
        chance = random.random()  # noqa: S311
        began = loop.time()
        missing: list[_Entry] = []
        try:
            listing = await self._reads.all(last_look=last_look)
        except LoopsError as exc:
            self._miss(entries, exc, requested)
            for entry in entries:
                self._reschedule(entry, requested, chance)
        except Exception as exc:  # noqa: BLE001 -- as above
            self._give_up(entries, exc)
        else:
            now = loop.time()
            found = await self._serve_all(listing, requested, chance)
            self._prices.saw_list(listing.size, len(listing.rows), found, now - began, now)
            for entry in entries:
                # Waits may have gone meanwhile, and others come; what was answered needs nothing more.
                if entry.served_at < requested and entry.watchers:
                    # Absence tells nothing of its status; only that a list is no way to learn it.
                    entry.unlisted = True
                    missing.append(entry)
        finally:
            if not last_look:
                self._listing = False
        for entry in entries:
            entry.asking = False
        for entry in missing:
            entry.asking = True
            self._spawn(self._look(entry, requested, last_look=last_look))
        self._ring_at(-math.inf)

    async def _serve_all(self, listing: Listing, requested: float, chance: float) -> int:
        """Give each entry its row; return how many have one."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for pace in self._paces.values():
            pace.due = now + self._pause(pace.policy, now - pace.newest, pace.status, chance)
        entries = self._entries
        found = 0
        until = now + SLICE
        for index, row in enumerate(listing.rows):
            if not index & 127 and loop.time() > until:
                await asyncio.sleep(0)
                until = loop.time() + SLICE
            entry = entries.get(row.id) if row is not None else None
            if entry is None:
                continue
            found += 1
            entry.unlisted = False
            if row.status.name == entry.status and not entry.keen:
                entry.served_at = requested
                entry.due = entry.pace.due
                continue
            self._serve(entry, row.status.name, _Item(listing, index), requested, loop.time())
            self._reschedule(entry, requested, chance)
            if loop.time() > until:
                await asyncio.sleep(0)
                until = loop.time() + SLICE
        return found

    # The answers

    def _serve(self, entry: _Entry, status: str, sampler: Callable[[], Sampler], requested: float, now: float) -> None:
        """Show a status to the waits of *entry* that had joined when it was asked for."""
        if requested < entry.served_at:
            return
        entry.served_at = requested
        entry.failures = 0
        if status != entry.status:
            entry.status, entry.changed_at = status, now
            entry.pace = self._pace(entry.pace.policy, status, now)
            if entry.woken is not None:
                # The visit is over, and with it whatever its wake still tries.
                entry.woken.cancel()
                entry.woken = None
            self._warn_if_strange(entry)
        entry.watchers = tuple(
            watcher
            for watcher in entry.watchers
            if watcher.joined > requested or not watcher.seen(status, sampler, requested, now)
        )
        # Grace periods and deadlines are judged by the waits themselves, so they must be shown every answer.
        entry.keen = status == DeploymentStatus.UNHEALTHY or any(
            watcher.joined > requested or watcher.deadline <= now for watcher in entry.watchers
        )
        if status == DeploymentStatus.SCALED_TO_ZERO and entry.woken is None:
            self._wake_if_wanted(entry, sampler)
        self._drop_if_idle(entry)

    def _miss(self, entries: Sequence[_Entry], error: LoopsError, requested: float) -> None:
        """Tell of a failure: the waits of *entries*, or all waits if no poll can succeed any more."""
        now = asyncio.get_running_loop().time()
        if isinstance(error, (AuthenticationError, PermissionDeniedError)):
            entries = list(self._entries.values())
        for entry in entries:
            if requested < entry.served_at:
                continue
            entry.failures += 1
            entry.keen = True
            entry.watchers = tuple(
                watcher
                for watcher in entry.watchers
                if watcher.joined > requested or not watcher.missed(error, requested, now)
            )
            self._drop_if_idle(entry)

    def _give_up(self, entries: Iterable[_Entry], error: Exception) -> None:
        for entry in entries:
            watchers, entry.watchers = entry.watchers, ()
            for watcher in watchers:
                watcher.abandoned(error)
            self._drop_if_idle(entry)

    # The schedule

    def _pace(self, policy: PollPolicy, status: str | None, now: float) -> _Pace:
        pace = self._paces.get((policy, status))
        if pace is None:
            pace = self._paces[policy, status] = _Pace(policy, status, now)
        pace.newest = max(pace.newest, now)
        return pace

    def _pause(self, policy: PollPolicy, elapsed: float, status: str | None, chance: float) -> float:
        least = policy.initial * min(1.0, (len(self._entries) - 1) / CROWD)
        return policy.jittered(max(least, policy.pause(elapsed, status)), chance)

    def _reschedule(self, entry: _Entry, requested: float, chance: float) -> None:
        """Set the time of the next look at *entry* by its own course."""
        now = asyncio.get_running_loop().time()
        policy = entry.pace.policy
        if any(watcher.joined > requested for watcher in entry.watchers):
            due = now
        elif entry.failures:
            due = now + policy.jittered(policy.backoff(entry.failures), chance)
        else:
            due = now + self._pause(policy, now - entry.changed_at, entry.status, chance)
        if len(self._entries) > CROWD:
            grid = policy.initial / GRID
            due = math.ceil(due / grid) * grid
        for watcher in entry.watchers:
            due = min(due, watcher.due_by())
        entry.due = due
        self._ring_at(due)

    # What else a status asks for

    def _wake_if_wanted(self, entry: _Entry, sampler: Callable[[], Sampler]) -> None:
        if any(watcher.policy.wake for watcher in entry.watchers):
            try:
                entry.woken = self._spawn(self._wake(entry, sampler()))
            except DecodeError as exc:
                self._miss([entry], exc, entry.served_at)

    async def _wake(self, entry: _Entry, sampler: Sampler) -> None:
        try:
            await self._reads.wake(sampler)
        except (LoopsError, ValueError) as exc:
            # It may wake up by itself, as new deployments do: the wait goes on, and tells of this if it fails.
            logger.warning("sampler %s is scaled to zero and could not be woken: %s", sampler.id, exc)
            for watcher in entry.watchers:
                watcher.noted(exc)
            refused = isinstance(exc, ValueError) or (isinstance(exc, APIError) and exc.status < 500)
            if not refused and entry.woken is asyncio.current_task():
                # The next answer that still says so tries again.
                entry.woken = None
                entry.keen = True

    def _warn_if_strange(self, entry: _Entry) -> None:
        status = entry.status
        if not status or status in _KNOWN or status in self._strange:
            return
        if any(status in watcher.policy.ready | watcher.policy.failed for watcher in entry.watchers):
            return
        self._strange.add(status)
        logger.warning("sampler %s has the unknown status %r; waiting on", entry.sampler_id, status)


_KNOWN: Final = frozenset(DeploymentStatus)
