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

DELIVERY_SLICE_S: Final = 0.002
"""Seconds for which an answer is worked on before the event loop gets its turn: those whose waits it settles then run,
which takes several times as long."""

MAX_GETS_DURING_LIST: Final = 8
"""Samplers that are asked for one by one rather than wait for the end of a list that is in flight."""

WAKE_RETRY_BACKOFF_STEP: Final = 3
"""Number of the backoff's pauses that is kept after a wake has failed for good."""

LIST_TIMEOUT_S: Final = 10.0
"""Seconds that a list may take, and times what it usually takes on top, before it counts as failed."""

FINAL_LIST_TIMEOUT_S: Final = 1.0
"""Seconds that the list of a last look may take: there must be time left to ask by GET."""

LIST_REFUSED_FOR_S: Final = 300.0
"""Seconds for which samplers are asked for by GET after the list was refused."""

LIST_BROKEN_FOR_S: Final = 60.0
"""Seconds for which they are after lists failed again and again while a GET did not."""


# Looked up in the enumeration each time, they would be a part of what a changed status costs.
UNHEALTHY: Final = DeploymentStatus.UNHEALTHY.value
SCALED_TO_ZERO: Final = DeploymentStatus.SCALED_TO_ZERO.value


class StatusPoller:
    """Poll the statuses that somebody waits for, and tell those who wait."""

    def __init__(self, reader: StatusReader) -> None:
        self._reader = reader
        self._schedule = Schedule()
        self._costs = PollCosts()
        self._timer = ResettableTimer()
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._listing = False
        self._has_failed = False
        self._list_failures = 0
        self._no_list_until = -math.inf
        self._warned_statuses: set[str] = set()

    def subscribe(self, sampler_id: str, subscriber: Subscriber) -> None:
        """Take *subscriber* in; it is told of every answer about *sampler_id* from the next poll on."""
        loop = asyncio.get_running_loop()
        entry = self._schedule.add(sampler_id, subscriber, loop.time())
        self._reader.mark_seen(sampler_id)
        if self._task is None:
            # The poll serves everybody: it must not run in the context of whoever came first.
            self._task = loop.create_task(self._run(), name="loops-async-poll", context=contextvars.Context())
        self._timer.bring_forward(min(entry.due, entry.deadline))

    def unsubscribe(self, sampler_id: str, subscriber: Subscriber) -> bool:
        """Let *subscriber* go, settled or not; return whether it was the last, which is to await `rest()`."""
        entry = self._schedule.entries.get(sampler_id)
        if entry is not None and subscriber in entry.subscribers:
            entry.subscribers = tuple(each for each in entry.subscribers if each is not subscriber)
            self._schedule.discard_if_unused(entry)
        return not self._schedule.entries

    async def wait_stopped(self) -> None:
        """Wait until the polling has ended, unless another wait has subscribed."""
        if not self._schedule.entries:
            await self._stop()

    async def aclose(self) -> None:
        """End every wait that is left."""
        self._fail_all(RuntimeError("the LoopsClient was closed while this wait was on"))
        await self._stop()

    async def _stop(self) -> None:
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

    def _fail_all(self, error: Exception) -> None:
        entries = list(self._schedule.entries.values())
        self._schedule.entries.clear()
        self._fail(entries, error)
        self._timer.bring_forward(-math.inf)

    def _fail(self, entries: Iterable[PolledSampler], error: Exception) -> None:
        for entry in entries:
            subscribers, entry.subscribers = entry.subscribers, ()
            for subscriber in subscribers:
                subscriber.on_poller_stopped(error)
            self._schedule.discard_if_unused(entry)

    # The loop

    async def _run(self) -> None:
        me: asyncio.Task[None] | None = asyncio.current_task()
        # Another run may have begun before this one has ended: each cancels the requests of its own.
        requests: set[asyncio.Task[None]] = set()
        self._requests = requests
        self._listing = False
        polling = AsyncRetrying(
            retry=retry_if_result(bool), wait=self._until_next_tick, sleep=self._timer.sleep, reraise=True
        )
        try:
            await polling(self._poll)
        except Exception as exc:
            # A defect of this module must not leave waits that hang for ever.
            self._fail_all(exc)
            raise
        except asyncio.CancelledError:
            if self._task is me:
                self._fail_all(RuntimeError("the polling task was cancelled from outside"))
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
        self._has_failed = False
        while self._tick():
            if self._has_failed:
                return True
            await self._timer.sleep(self._timer.remaining())
        return False

    def _tick(self) -> bool:
        """Ask for all samplers that are due; return whether anybody still waits."""
        now = asyncio.get_running_loop().time()
        late, due, self._timer.at = self._schedule.tick(now)
        if late:
            for entry in late:
                self._expire(entry, now)
            self._dispatch(late, now, final=True)
        if due and not (self._listing and len(due) > MAX_GETS_DURING_LIST):
            for entry in due:
                entry.in_flight, entry.due = True, math.inf
            self._dispatch(due, now, final=False)
        return bool(self._schedule.entries)

    def _until_next_tick(self, _: RetryCallState) -> float:
        return self._timer.remaining()

    def _expire(self, entry: PolledSampler, now: float) -> None:
        """Tell the waits of *entry* whose deadline has come that their last look is taken."""
        entry.must_notify = True
        entry.due = entry.deadline = math.inf
        for subscriber in entry.subscribers:
            if subscriber.deadline <= now:
                subscriber.on_deadline()
            else:
                entry.deadline = min(entry.deadline, subscriber.deadline)
        self._timer.bring_forward(entry.deadline)

    # The requests

    def _dispatch(self, entries: list[PolledSampler], now: float, *, final: bool) -> None:
        """Ask for *entries* by the cheaper plan."""
        listed = [entry for entry in entries if entry.unlisted_until <= now]
        if self._may_list(now, final) and self._costs.list_is_cheaper(len(listed), now):
            self._spawn(self._poll_list(listed, now, final=final))
            # A list that fails again and again may be all that is broken: one GET tells.
            probe = listed[:1] if self._list_failures > 1 else []
            entries = [entry for entry in entries if entry.unlisted_until > now] + probe
        for entry in entries:
            self._spawn(self._poll_one(entry, now, final=final))

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
            self._fail_all(error if isinstance(error, Exception) else RuntimeError(f"polling broke off: {error!r}"))

    async def _poll_one(self, entry: PolledSampler, requested: float, *, final: bool) -> None:
        """Ask for one sampler by its id."""
        loop = asyncio.get_running_loop()
        try:
            sampler, size, seconds = await self._reader.get(entry.sampler_id, final=final)
        except LoopsError as exc:
            self._deliver_error([entry], exc, requested)
        except Exception as exc:  # noqa: BLE001 -- a defect, or a session that the caller closed: no use in going on
            self._fail([entry], exc)
        else:
            now = loop.time()
            self._costs.record_get(size, seconds)
            if self._list_failures > 1:
                self._no_list_until = now + LIST_BROKEN_FOR_S
            self._deliver(entry, sampler.status, lambda: sampler, requested, now)
        if not final:
            entry.in_flight = False
        if entry.subscribers:
            due = self._schedule.reschedule(entry, requested, loop.time(), random.random())  # noqa: S311
            self._timer.bring_forward(due)
        elif not self._schedule.entries:
            self._timer.bring_forward(-math.inf)

    async def _poll_list(self, entries: list[PolledSampler], requested: float, *, final: bool) -> None:
        """Ask for *entries* by a list, and serve everybody with it."""
        loop = asyncio.get_running_loop()
        chance = random.random()  # noqa: S311
        requests, missing = self._requests, list[PolledSampler]()
        self._listing = self._listing or not final
        patience = FINAL_LIST_TIMEOUT_S if final else LIST_TIMEOUT_S * (1 + self._costs.list_seconds)
        try:
            listing, seconds = await self._reader.list(final=final, limit=patience)
        except LoopsError as exc:
            refused = isinstance(exc, APIError) and 400 <= exc.status < 500 and exc.status not in {408, 429}
            if refused:
                # To list needs another right than to get, and old services may not have the route: ask by GET.
                self._no_list_until = loop.time() + LIST_REFUSED_FOR_S
            if refused or final:
                missing = entries
            else:
                self._list_failed(entries, exc, requested, chance)
        except Exception as exc:  # noqa: BLE001 -- as above
            self._fail(entries, exc)
        else:
            self._list_failures = 0
            found = await self._deliver_list(listing, requested, chance)
            now = loop.time()
            self._costs.record_list(listing.size, len(listing.rows), found, seconds, now)
            # Absence tells nothing of its status; only that a list is no way to learn it.
            missing = [entry for entry in entries if entry.last_answer_at < requested and entry.subscribers]
            for entry in missing:
                self._schedule.not_listed(entry, now)
        finally:
            if not final and self._requests is requests:
                self._listing = False
        for entry in entries:
            entry.in_flight = False
        for entry in missing:
            entry.in_flight = not final
            self._spawn(self._poll_one(entry, requested, final=final))
        self._timer.bring_forward(-math.inf)

    def _list_failed(self, entries: list[PolledSampler], error: LoopsError, requested: float, chance: float) -> None:
        self._list_failures += 1
        self._deliver_error(entries, error, requested)
        now = asyncio.get_running_loop().time()
        for entry in entries:
            self._schedule.reschedule(entry, requested, now, chance)

    async def _deliver_list(self, listing: Listing, requested: float, chance: float) -> int:
        """Give each entry its row; return how many have one."""
        loop = asyncio.get_running_loop()
        schedule = self._schedule
        entries = schedule.entries
        # One time for all that this list changes, so that they also fall due at one.
        now = loop.time()
        schedule.align_groups(requested, now, chance)
        found = 0
        until = now + DELIVERY_SLICE_S
        for index, row in enumerate(listing.rows):
            if not index & 15 and loop.time() > until:
                await asyncio.sleep(0)
                until = loop.time() + DELIVERY_SLICE_S
            entry = entries.get(row.id) if row is not None else None
            if row is None or entry is None:
                continue
            found += 1
            entry.unlisted_until = -math.inf
            status = row.status.name
            if status == entry.status and not entry.must_notify:
                if entry.last_answer_at < requested:
                    entry.last_answer_at = requested
                    entry.due = entry.group.due
                continue
            self._deliver(entry, status, LazySampler(listing, index), requested, now)
            if entry.must_notify:
                schedule.reschedule(entry, requested, now, chance)
            else:
                schedule.align_to_group(entry, requested, now, chance)
        return found

    # The answers

    def _deliver(
        self, entry: PolledSampler, status: str, sampler: Callable[[], Sampler], requested: float, now: float
    ) -> None:
        """Show a status to the waits of *entry* that had subscribed when it was requested."""
        if requested < entry.last_answer_at:
            return
        entry.last_answer_at = requested
        entry.failures = 0
        if status != entry.status:
            self._schedule.set_status(entry, status, now)
            if entry.wake_task is not None:
                # The visit is over, and with it whatever its wake still tries.
                entry.wake_task.cancel()
                entry.wake_task = None
            self._warn_if_unknown(entry)
        # Grace periods and deadlines are judged by the waits themselves, so they must be shown every answer.
        must_notify = entry.has_mixed_policies or status == UNHEALTHY
        settled: list[Subscriber] = []
        subscribers = entry.subscribers
        for subscriber in subscribers:
            if subscriber.subscribed_at > requested:
                must_notify = True
            elif subscriber.on_status(status, sampler, requested, now):
                settled.append(subscriber)
            elif subscriber.deadline <= now:
                must_notify = True
        # What the waits were shown may have made others join.
        entry.must_notify = must_notify or entry.subscribers is not subscribers
        if self._remove_done(entry, settled):
            return
        if status == SCALED_TO_ZERO and entry.wake_task is None:
            self._wake_if_wanted(entry, sampler)

    def _deliver_error(self, entries: Sequence[PolledSampler], error: LoopsError, requested: float) -> None:
        """Tell of a failure: the waits of *entries*, or all waits if no poll can succeed any more."""
        self._has_failed = True
        now = asyncio.get_running_loop().time()
        if isinstance(error, (AuthenticationError, PermissionDeniedError)):
            entries = list(self._schedule.entries.values())
        for entry in entries:
            if requested < entry.last_answer_at:
                continue
            entry.failures += 1
            entry.must_notify = True
            settled = [
                subscriber
                for subscriber in entry.subscribers
                if subscriber.subscribed_at <= requested and subscriber.on_error(error, requested, now)
            ]
            self._remove_done(entry, settled)

    def _remove_done(self, entry: PolledSampler, settled: list[Subscriber]) -> bool:
        """Let those go that are settled; return whether nobody is left."""
        if settled:
            gone = set(settled)
            entry.subscribers = tuple(subscriber for subscriber in entry.subscribers if subscriber not in gone)
            self._schedule.discard_if_unused(entry)
        return not entry.subscribers

    # What else a status asks for

    def _wake_if_wanted(self, entry: PolledSampler, sampler: Callable[[], Sampler]) -> None:
        if any(subscriber.policy.wake for subscriber in entry.subscribers):
            try:
                asleep = sampler()
            except LoopsError as exc:
                self._deliver_error([entry], exc, entry.last_answer_at)
            else:
                entry.wake_task = self._spawn(self._wake(entry, asleep))

    async def _wake(self, entry: PolledSampler, sampler: Sampler) -> None:
        try:
            await self._reader.wake(sampler)
        except (LoopsError, ValueError) as exc:
            # It may wake up by itself, as new deployments do: the wait goes on, and tells of this if it fails.
            logger.warning("sampler %s is scaled to zero and could not be woken: %s", sampler.id, exc)
            for subscriber in entry.subscribers:
                subscriber.record_error(exc)
            status = exc.status if isinstance(exc, APIError) else None
            refused = isinstance(exc, ValueError) or (status is not None and status < 500 and status not in {408, 429})
            if not refused:
                # An answer that still says so tries again, though not at once; the end of the visit cancels this.
                await asyncio.sleep(entry.group.policy.backoff(WAKE_RETRY_BACKOFF_STEP))
                entry.wake_task = None
                entry.must_notify = True

    def _warn_if_unknown(self, entry: PolledSampler) -> None:
        status = entry.status
        if not status or status in _KNOWN or status in self._warned_statuses:
            return
        if any(status in subscriber.policy.ready | subscriber.policy.failed for subscriber in entry.subscribers):
            return
        self._warned_statuses.add(status)
        logger.warning("sampler %s has the unknown status %r; waiting on", entry.sampler_id, status)


_KNOWN: Final = frozenset(DeploymentStatus)
