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

The loop is tenacity's: how long to pause, whether to go on and when to stop. While all goes well it stays in one lap.

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
from typing import Any, Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from .._aio import ResettableTimer, wait_through_cancellation
from ..errors import APIError, AuthenticationError, LoopsError, PermissionDeniedError
from ..models import DeploymentStatus, Sampler
from .costs import PollCosts
from .interfaces import LazySampler, Listing, StatusReader, Subscriber
from .schedule import PolledSampler, Schedule

logger = logging.getLogger("loops_async")

SLICE: Final = 0.002
"""Seconds for which an answer is worked on before the event loop gets its turn: those whose waits it settles then run,
which takes several times as long."""

FEW: Final = 8
"""Samplers that are asked for one by one rather than wait for the end of a list that is in flight."""

WAKE_BACKOFF: Final = 3
"""Number of the backoff's pauses that is kept after a wake has failed for good."""

LIST_PATIENCE: Final = 10.0
"""Seconds that a list may take, and times what it usually takes on top, before it counts as failed."""

LAST_LIST: Final = 1.0
"""Seconds that the list of a last look may take: there must be time left to ask by GET."""

NO_LIST: Final = 300.0
"""Seconds for which samplers are asked for by GET after the list was refused."""

BROKEN_LIST: Final = 60.0
"""Seconds for which they are after lists failed again and again while a GET did not."""


# Looked up in the enumeration each time, they would be a part of what a changed status costs.
UNHEALTHY: Final = DeploymentStatus.UNHEALTHY.value
SCALED_TO_ZERO: Final = DeploymentStatus.SCALED_TO_ZERO.value


class StatusPoller:
    """Poll the statuses that somebody waits for, and tell those who wait."""

    def __init__(self, reads: StatusReader) -> None:
        self._reads = reads
        self._schedule = Schedule()
        self._costs = PollCosts()
        self._alarm = ResettableTimer()
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._listing = False
        self._troubled = False
        self._list_failures = 0
        self._no_list_until = -math.inf
        self._strange: set[str] = set()

    def join(self, sampler_id: str, watcher: Subscriber) -> None:
        """Take *watcher* in; it is told of every answer about *sampler_id* from the next poll on."""
        loop = asyncio.get_running_loop()
        entry = self._schedule.add(sampler_id, watcher, loop.time())
        self._reads.know(sampler_id)
        if self._task is None:
            # The poll serves everybody: it must not run in the context of whoever came first.
            self._task = loop.create_task(self._run(), name="loops-async-poll", context=contextvars.Context())
        self._alarm.bring_forward(min(entry.due, entry.deadline))

    def leave(self, sampler_id: str, watcher: Subscriber) -> bool:
        """Let *watcher* go, settled or not; return whether it was the last, which is to await `rest()`."""
        entry = self._schedule.entries.get(sampler_id)
        if entry is not None and watcher in entry.watchers:
            entry.watchers = tuple(each for each in entry.watchers if each is not watcher)
            self._schedule.drop_if_idle(entry)
        return not self._schedule.entries

    async def rest(self) -> None:
        """Wait until the polling has ended, unless somebody has joined again."""
        if not self._schedule.entries:
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
            self._task, self._ending = None, task
            task.cancel()
        cancelled = await wait_through_cancellation(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("polling ended with an error after the last wait had gone", exc_info=error)
        if cancelled is not None:
            raise cancelled

    def _abandon(self, error: Exception) -> None:
        entries = list(self._schedule.entries.values())
        self._schedule.entries.clear()
        self._give_up(entries, error)
        self._alarm.bring_forward(-math.inf)

    def _give_up(self, entries: Iterable[PolledSampler], error: Exception) -> None:
        for entry in entries:
            watchers, entry.watchers = entry.watchers, ()
            for watcher in watchers:
                watcher.abandoned(error)
            self._schedule.drop_if_idle(entry)

    # The loop

    async def _run(self) -> None:
        me: asyncio.Task[None] | None = asyncio.current_task()
        # Another run may have begun before this one has ended: each cancels the requests of its own.
        requests: set[asyncio.Task[None]] = set()
        self._requests = requests
        self._listing = False
        polling = AsyncRetrying(
            retry=retry_if_result(bool), wait=self._until_next_tick, sleep=self._alarm.sleep, reraise=True
        )
        try:
            await polling(self._poll)
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

    async def _poll(self) -> bool:
        """Tick until a look fails or nobody waits any more; return whether somebody does.

        A lap of tenacity costs a quarter of a request, so that it carries on only after a failure.
        """
        self._troubled = False
        while self._tick():
            if self._troubled:
                return True
            await self._alarm.sleep(self._alarm.remaining())
        return False

    def _tick(self) -> bool:
        """Ask for all samplers that are due; return whether anybody still waits."""
        now = asyncio.get_running_loop().time()
        late, due, self._alarm.at = self._schedule.tick(now)
        if late:
            for entry in late:
                self._expire(entry, now)
            self._ask(late, now, final=True)
        if due and not (self._listing and len(due) > FEW):
            for entry in due:
                entry.asking, entry.due = True, math.inf
            self._ask(due, now, final=False)
        return bool(self._schedule.entries)

    def _until_next_tick(self, _: RetryCallState) -> float:
        return self._alarm.remaining()

    def _expire(self, entry: PolledSampler, now: float) -> None:
        """Tell the waits of *entry* whose deadline has come that their last look is taken."""
        entry.keen = True
        entry.due = entry.deadline = math.inf
        for watcher in entry.watchers:
            if watcher.deadline <= now:
                watcher.expired()
            else:
                entry.deadline = min(entry.deadline, watcher.deadline)
        self._alarm.bring_forward(entry.deadline)

    # The requests

    def _ask(self, entries: list[PolledSampler], now: float, *, final: bool) -> None:
        """Ask for *entries* by the cheaper plan."""
        listed = [entry for entry in entries if entry.unlisted_until <= now]
        if self._may_list(now, final) and self._costs.list_is_cheaper(len(listed), now):
            self._spawn(self._sweep(listed, now, final=final))
            # A list that fails again and again may be all that is broken: one GET tells.
            probe = listed[:1] if self._list_failures > 1 else []
            entries = [entry for entry in entries if entry.unlisted_until > now] + probe
        for entry in entries:
            self._spawn(self._look(entry, now, final=final))

    def _may_list(self, now: float, final: bool) -> bool:
        return now >= self._no_list_until and (final or not self._listing)

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

    async def _look(self, entry: PolledSampler, requested: float, *, final: bool) -> None:
        """Ask for one sampler by its id."""
        loop = asyncio.get_running_loop()
        try:
            sampler, size, seconds = await self._reads.one(entry.sampler_id, final=final)
        except LoopsError as exc:
            self._miss([entry], exc, requested)
        except Exception as exc:  # noqa: BLE001 -- a defect, or a session that the caller closed: no use in going on
            self._give_up([entry], exc)
        else:
            now = loop.time()
            self._costs.record_get(size, seconds)
            if self._list_failures > 1:
                self._no_list_until = now + BROKEN_LIST
            self._serve(entry, sampler.status, lambda: sampler, requested, now)
        if not final:
            entry.asking = False
        if entry.watchers:
            due = self._schedule.reschedule(entry, requested, loop.time(), random.random())  # noqa: S311
            self._alarm.bring_forward(due)
        elif not self._schedule.entries:
            self._alarm.bring_forward(-math.inf)

    async def _sweep(self, entries: list[PolledSampler], requested: float, *, final: bool) -> None:
        """Ask for *entries* by a list, and serve everybody with it."""
        loop = asyncio.get_running_loop()
        chance = random.random()  # noqa: S311
        requests, missing = self._requests, list[PolledSampler]()
        self._listing = self._listing or not final
        patience = LAST_LIST if final else LIST_PATIENCE * (1 + self._costs.list_seconds)
        try:
            listing, seconds = await self._reads.all(final=final, limit=patience)
        except LoopsError as exc:
            refused = isinstance(exc, APIError) and 400 <= exc.status < 500 and exc.status not in {408, 429}
            if refused:
                # To list needs another right than to get, and old services may not have the route: ask by GET.
                self._no_list_until = loop.time() + NO_LIST
            if refused or final:
                missing = entries
            else:
                self._list_failed(entries, exc, requested, chance)
        except Exception as exc:  # noqa: BLE001 -- as above
            self._give_up(entries, exc)
        else:
            self._list_failures = 0
            found = await self._serve_all(listing, requested, chance)
            now = loop.time()
            self._costs.record_list(listing.size, len(listing.rows), found, seconds, now)
            # Absence tells nothing of its status; only that a list is no way to learn it.
            missing = [entry for entry in entries if entry.served_at < requested and entry.watchers]
            for entry in missing:
                self._schedule.not_listed(entry, now)
        finally:
            if not final and self._requests is requests:
                self._listing = False
        for entry in entries:
            entry.asking = False
        for entry in missing:
            entry.asking = not final
            self._spawn(self._look(entry, requested, final=final))
        self._alarm.bring_forward(-math.inf)

    def _list_failed(self, entries: list[PolledSampler], error: LoopsError, requested: float, chance: float) -> None:
        self._list_failures += 1
        self._miss(entries, error, requested)
        now = asyncio.get_running_loop().time()
        for entry in entries:
            self._schedule.reschedule(entry, requested, now, chance)

    async def _serve_all(self, listing: Listing, requested: float, chance: float) -> int:
        """Give each entry its row; return how many have one."""
        loop = asyncio.get_running_loop()
        schedule = self._schedule
        entries = schedule.entries
        # One time for all that this list changes, so that they also fall due at one.
        now = loop.time()
        schedule.draw_together(requested, now, chance)
        found = 0
        until = now + SLICE
        for index, row in enumerate(listing.rows):
            if not index & 15 and loop.time() > until:
                await asyncio.sleep(0)
                until = loop.time() + SLICE
            entry = entries.get(row.id) if row is not None else None
            if row is None or entry is None:
                continue
            found += 1
            entry.unlisted_until = -math.inf
            status = row.status.name
            if status == entry.status and not entry.keen:
                if entry.served_at < requested:
                    entry.served_at = requested
                    entry.due = entry.pace.due
                continue
            self._serve(entry, status, LazySampler(listing, index), requested, now)
            if entry.keen:
                schedule.reschedule(entry, requested, now, chance)
            else:
                schedule.fall_in(entry, requested, now, chance)
        return found

    # The answers

    def _serve(
        self, entry: PolledSampler, status: str, sampler: Callable[[], Sampler], requested: float, now: float
    ) -> None:
        """Show a status to the waits of *entry* that had joined when it was asked for."""
        if requested < entry.served_at:
            return
        entry.served_at = requested
        entry.failures = 0
        if status != entry.status:
            self._schedule.set_status(entry, status, now)
            if entry.woken is not None:
                # The visit is over, and with it whatever its wake still tries.
                entry.woken.cancel()
                entry.woken = None
            self._warn_if_strange(entry)
        # Grace periods and deadlines are judged by the waits themselves, so they must be shown every answer.
        keen = entry.mixed or status == UNHEALTHY
        settled: list[Subscriber] = []
        watchers = entry.watchers
        for watcher in watchers:
            if watcher.joined > requested:
                keen = True
            elif watcher.seen(status, sampler, requested, now):
                settled.append(watcher)
            elif watcher.deadline <= now:
                keen = True
        # What the waits were shown may have made others join.
        entry.keen = keen or entry.watchers is not watchers
        if self._dismiss(entry, settled):
            return
        if status == SCALED_TO_ZERO and entry.woken is None:
            self._wake_if_wanted(entry, sampler)

    def _miss(self, entries: Sequence[PolledSampler], error: LoopsError, requested: float) -> None:
        """Tell of a failure: the waits of *entries*, or all waits if no poll can succeed any more."""
        self._troubled = True
        now = asyncio.get_running_loop().time()
        if isinstance(error, (AuthenticationError, PermissionDeniedError)):
            entries = list(self._schedule.entries.values())
        for entry in entries:
            if requested < entry.served_at:
                continue
            entry.failures += 1
            entry.keen = True
            settled = [
                watcher
                for watcher in entry.watchers
                if watcher.joined <= requested and watcher.missed(error, requested, now)
            ]
            self._dismiss(entry, settled)

    def _dismiss(self, entry: PolledSampler, settled: list[Subscriber]) -> bool:
        """Let those go that are settled; return whether nobody is left."""
        if settled:
            gone = set(settled)
            entry.watchers = tuple(watcher for watcher in entry.watchers if watcher not in gone)
            self._schedule.drop_if_idle(entry)
        return not entry.watchers

    # What else a status asks for

    def _wake_if_wanted(self, entry: PolledSampler, sampler: Callable[[], Sampler]) -> None:
        if any(watcher.policy.wake for watcher in entry.watchers):
            try:
                asleep = sampler()
            except LoopsError as exc:
                self._miss([entry], exc, entry.served_at)
            else:
                entry.woken = self._spawn(self._wake(entry, asleep))

    async def _wake(self, entry: PolledSampler, sampler: Sampler) -> None:
        try:
            await self._reads.wake(sampler)
        except (LoopsError, ValueError) as exc:
            # It may wake up by itself, as new deployments do: the wait goes on, and tells of this if it fails.
            logger.warning("sampler %s is scaled to zero and could not be woken: %s", sampler.id, exc)
            for watcher in entry.watchers:
                watcher.noted(exc)
            status = exc.status if isinstance(exc, APIError) else None
            refused = isinstance(exc, ValueError) or (status is not None and status < 500 and status not in {408, 429})
            if not refused:
                # An answer that still says so tries again, though not at once; the end of the visit cancels this.
                await asyncio.sleep(entry.pace.policy.backoff(WAKE_BACKOFF))
                entry.woken = None
                entry.keen = True

    def _warn_if_strange(self, entry: PolledSampler) -> None:
        status = entry.status
        if not status or status in _KNOWN or status in self._strange:
            return
        if any(status in watcher.policy.ready | watcher.policy.failed for watcher in entry.watchers):
            return
        self._strange.add(status)
        logger.warning("sampler %s has the unknown status %r; waiting on", entry.sampler_id, status)


_KNOWN: Final = frozenset(DeploymentStatus)
