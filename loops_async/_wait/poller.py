"""How one poll serves all waits of a client.

A client has one `StatusPoller`, and that has one task, which lives only while a wait is subscribed: the first wait
starts it, and the last one awaits its end. The task does nothing but *tick*. A tick takes the samplers that are due
(`schedule.py` says when), decides whether one list or a GET for each of them is cheaper (`costs.py`), and starts the
requests as child tasks, so that a slow answer delays no other. Then it sleeps until the next sampler is due, or until a
new wait or an answer brings that time forward.

```text
wait for a ──subscribe──┐
wait for b ──subscribe──┤   tick ─────── sleep ─────── tick ─────── sleep ────── ...
wait for b ──subscribe──┘    │                          │
                             └─ GET a, GET b            └─ list
                                  │      │                  │
                     on_status of a's    on_status of       on_status of those
                     wait                both waits of b    whose status changed
```

What a reader must know before changing anything here:

- *Each sampler is one entry*, however many waits subscribed to it. A list serves all entries, due or not.
- *An answer counts only for the waits that had subscribed when it was requested.* A wait that subscribes during a poll
  is served by the next one, so that nothing older than the wait can end it. Answers that overtake each other are put in
  order by the times of their requests.
- *Absence from a list means nothing.* Lists lag, and show the caller's own samplers only: what a list lacks is polled
  by GET.
- *What a failed poll means is decided by the table in `_http/failures.py`.* Most failures change nothing but the time
  of the next poll, and a wait lasts until its own deadline. Only a GET with status 401 ends all waits. A list with 401
  or another refusal may only lack a right that a GET has, so it is followed by GETs.
- *Unchanged statuses cost nothing.* A wait is shown an answer if the status changed, or if it asked for every answer
  (`Attention`), because it depends on the time: in a grace period, or at its deadline. It is given the status, and
  builds the sampler only if needed. Long lists are delivered in slices, so that ten thousand waits that end at once do
  not block the event loop.
- *A defect in here ends all waits with the exception*, instead of leaving them to hang.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from .._aio import ResettableTimer, wait_through_cancellation
from .._http.failures import POLL, READ, Action, action_for
from ..errors import LoopsError
from ..models import DeploymentStatus, Sampler
from .costs import PollCosts
from .interfaces import EVERY_ANSWER, NOTHING, LazySampler, Listing, StatusReader, Subscriber
from .outage import Outage
from .policy import PolicyBackoff
from .schedule import PolledSampler, Schedule

logger = logging.getLogger("loops_async")

DELIVERY_SLICE_S: Final = 0.002
"""Seconds for which a list is delivered before the event loop gets a turn. The waits that it ends run in that turn,
which takes several times as long."""

MAX_GETS_DURING_LIST: Final = 8
"""Number of samplers that are polled by GET while a list is in flight; more than that wait for the list."""

LIST_TIMEOUT_S: Final = 10.0
"""Seconds that a list may take; multiples of the usual duration of a list are added."""

FINAL_LIST_TIMEOUT_S: Final = 1.0
"""Seconds that the list of a final poll may take, so that there is time left for GETs."""

LIST_REFUSED_FOR_S: Final = 300.0
"""Seconds for which only GETs are sent after a list was refused."""

LIST_BROKEN_FOR_S: Final = 60.0
"""Seconds for which only GETs are sent after lists failed repeatedly while a GET did not."""

MAX_WARNED_STATUSES: Final = 100
"""Number of unknown statuses that are remembered in order to warn about each of them once."""

# A look-up in the enumeration each time would be a part of what a changed status costs.
SCALED_TO_ZERO: Final = DeploymentStatus.SCALED_TO_ZERO.value

_KNOWN_STATUSES: Final = frozenset(DeploymentStatus)


class StatusPoller:
    """Poll the statuses that waits subscribed to, and deliver them."""

    def __init__(self, reader: StatusReader) -> None:
        self._reader = reader
        self._probe_slots: asyncio.Semaphore | None = None
        self._schedule = Schedule()
        self._costs = PollCosts()
        self._timer = ResettableTimer()
        self._task: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._is_listing = False
        self._outage = Outage()
        self._list_failures = 0
        self._no_list_until = -math.inf
        self._warned_statuses: set[str] = set()

    def subscribe(self, sampler_id: str, subscriber: Subscriber) -> None:
        """Deliver every answer about *sampler_id*, from the next poll on, to *subscriber*.

        Raises:
            RuntimeError: The client is closed.
        """
        if self._is_closed:
            raise RuntimeError("this LoopsClient is closed; make a new one")
        loop = asyncio.get_running_loop()
        entry = self._schedule.add(sampler_id, subscriber, loop.time())
        self._reader.mark_seen(sampler_id)
        if self._task is None:
            # The poll serves all waits: it must not run in the context of the first one.
            self._task = loop.create_task(self._run(), name="loops-async-poll", context=contextvars.Context())
        self._timer.bring_forward(min(entry.due, entry.deadline))

    def unsubscribe(self, sampler_id: str, subscriber: Subscriber) -> bool:
        """Remove *subscriber*; return True if it was the last one, which must then await `wait_stopped()`."""
        entry = self._schedule.samplers.get(sampler_id)
        if entry is not None and subscriber in entry.subscribers:
            entry.subscribers = tuple(each for each in entry.subscribers if each is not subscriber)
            self._schedule.discard_if_unused(entry)
        return not self._schedule.samplers

    async def wait_stopped(self) -> None:
        """Wait until the polling has stopped, unless another wait has subscribed in the meantime."""
        if not self._schedule.samplers:
            await self._stop()

    @property
    def probe_slots(self) -> asyncio.Semaphore:
        """The permissions to run a probe, for all waits of the client."""
        if self._probe_slots is None:
            # Not before the first sampler is ready: how many connections there are is known once one was used.
            self._probe_slots = asyncio.Semaphore(self._reader.probe_slots)
        return self._probe_slots

    def read(self, item: object) -> Sampler | None:
        """Build a sampler from what `LazySampler.item()` returned; return None if it cannot be read."""
        return item if isinstance(item, Sampler) else self._reader.read(item)

    async def answers(self, sampler: Sampler) -> bool:
        """Return whether *sampler* answers; the probe that is taken by default."""
        return await self._reader.answers(sampler)

    async def aclose(self) -> None:
        """End all waits, and stop."""
        self._is_closed = True
        self._fail_all(RuntimeError("the LoopsClient was closed while this wait was on"))
        await self._stop()

    async def _stop(self) -> None:
        task = self._task or self._stopping
        if task is None:
            return
        if task is self._task:
            self._task, self._stopping = None, task
            task.cancel()
        cancelled = await wait_through_cancellation(task)
        if cancelled is not None:
            raise cancelled

    def _fail_all(self, error: Exception) -> bool:
        """End all waits with *error*; return False if there were none."""
        entries = self._schedule.clear()
        self._fail(entries, error)
        self._timer.bring_forward(-math.inf)
        return bool(entries)

    def _fail(self, entries: Iterable[PolledSampler], error: Exception) -> None:
        """End the waits of *entries* with *error*."""
        for entry in entries:
            subscribers, entry.subscribers = entry.subscribers, ()
            for subscriber in subscribers:
                subscriber.on_poller_stopped(error)
            self._schedule.discard_if_unused(entry)

    # The loop

    async def _run(self) -> None:
        me: asyncio.Task[None] | None = asyncio.current_task()
        # Another run may begin before this one has ended: each cancels the requests of its own.
        requests: set[asyncio.Task[None]] = set()
        self._requests = requests
        self._is_listing = False
        self._outage = Outage()
        try:
            while self._tick():
                await self._timer.sleep()
        except Exception as exc:
            # A defect of this module. The waits report it; if there are none left, asyncio does.
            if not self._fail_all(exc):
                raise
        except asyncio.CancelledError:
            if self._task is me:
                self._fail_all(RuntimeError("the polling task was cancelled from outside"))
            raise
        finally:
            if self._task is me:
                self._task = None
            self._stopping = me
            for request in requests:
                request.cancel()
            if requests:
                await asyncio.wait(requests)
            if self._stopping is me:
                self._stopping = None

    def _tick(self) -> bool:
        """Poll all samplers that are due; return whether any wait is left."""
        now = asyncio.get_running_loop().time()
        late, due, upcoming = self._schedule.tick(now)
        self._outage.report(now)
        self._timer.at = min(upcoming, self._outage.report_at)
        if late:
            for entry in late:
                self._announce_deadline(entry, now)
            self._dispatch(late, now, final=True)
        if due and not (self._is_listing and len(due) > MAX_GETS_DURING_LIST):
            for entry in due:
                entry.in_flight, entry.due = True, math.inf
            self._dispatch(due, now, final=False)
        return bool(self._schedule.samplers)

    def _announce_deadline(self, entry: PolledSampler, now: float) -> None:
        """Call `on_deadline()` of the subscribers of *entry* whose final poll is about to be sent."""
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
        """Request *entries* by what is cheaper."""
        listed = [entry for entry in entries if entry.unlisted_until <= now]
        if self._may_list(now, final) and self._costs.list_is_cheaper(len(listed), now):
            self._spawn(self._poll_list(listed, now, final=final))
            # If lists fail repeatedly, one GET finds out whether only lists do.
            sample = listed[:1] if self._list_failures > 1 else []
            entries = [entry for entry in entries if entry.unlisted_until > now] + sample
        for entry in entries:
            self._spawn(self._poll_one(entry, now, final=final))

    def _may_list(self, now: float, final: bool) -> bool:
        return now >= self._no_list_until and (final or not self._is_listing)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        requests = self._requests
        requests.add(task)
        task.add_done_callback(requests.discard)
        task.add_done_callback(self._fail_all_on_defect)
        return task

    def _fail_all_on_defect(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail_all(error if isinstance(error, Exception) else RuntimeError(f"polling broke off: {error!r}"))

    async def _poll_one(self, entry: PolledSampler, requested: float, *, final: bool) -> None:
        """Request one sampler by its id, and deliver the answer."""
        loop = asyncio.get_running_loop()
        try:
            sampler, size, seconds = await self._reader.get(entry.sampler_id, final=final)
        except LoopsError as exc:
            self._record_failure(exc, requested)
            self._deliver_error([entry], exc, requested)
        except Exception as exc:  # noqa: BLE001 -- a defect, or a session that the caller closed: retrying is no use
            self._fail([entry], exc)
        else:
            now = loop.time()
            self._outage.record_success(now)
            self._costs.record_get(size, seconds)
            if self._list_failures > 1:
                self._no_list_until = now + LIST_BROKEN_FOR_S
            self._deliver(entry, sampler.status, LazySampler(sampler), requested, now)
        if not final:
            entry.in_flight = False
        if entry.subscribers:
            due = self._schedule.reschedule(entry, requested, loop.time(), random.random())  # noqa: S311
            self._timer.bring_forward(due)
        elif not self._schedule.samplers:
            self._timer.bring_forward(-math.inf)

    async def _poll_list(self, entries: list[PolledSampler], requested: float, *, final: bool) -> None:
        """Request a list because of *entries*, and deliver it to all."""
        loop = asyncio.get_running_loop()
        chance = random.random()  # noqa: S311
        requests = self._requests
        unserved: list[PolledSampler] = []
        self._is_listing = self._is_listing or not final
        limit = FINAL_LIST_TIMEOUT_S if final else LIST_TIMEOUT_S * (1 + self._costs.list_seconds)
        try:
            listing, seconds = await self._reader.list(final=final, limit=limit)
        except LoopsError as exc:
            unserved = await self._list_failed(entries, exc, requested, chance, final=final)
        except Exception as exc:  # noqa: BLE001 -- as above
            self._fail(entries, exc)
        else:
            self._list_failures = 0
            self._outage.record_success(loop.time())
            found = await self._deliver_list(listing, requested, chance)
            now = loop.time()
            self._costs.record_list(listing.size, len(listing.rows), found, seconds, now)
            unserved = [entry for entry in entries if entry.last_answer_at < requested]
            for entry in unserved:
                self._schedule.not_listed(entry, now)
        finally:
            if not final and self._requests is requests:
                self._is_listing = False
        for entry in entries:
            entry.in_flight = False
        for entry in unserved:
            if entry.subscribers:
                entry.in_flight = not final
                self._spawn(self._poll_one(entry, requested, final=final))
        self._timer.bring_forward(-math.inf)

    async def _list_failed(
        self, entries: list[PolledSampler], error: LoopsError, requested: float, chance: float, *, final: bool
    ) -> list[PolledSampler]:
        """Handle a list that failed; return the entries that are to be polled by GET instead."""
        action = action_for(error, POLL)
        now = asyncio.get_running_loop().time()
        self._record_failure(error, requested)
        if action is not Action.GO_ON:
            # A list needs another right than a GET, and old services may not have the route.
            self._no_list_until = now + LIST_REFUSED_FOR_S
        if final:
            return entries
        if action is Action.END_ALL_WAITS:
            # If the key is not accepted, one GET says so: there is no need to send hundreds.
            await self._poll_one(entries[0], requested, final=False)
            return entries[1:]
        if action is not Action.GO_ON:
            return entries
        self._list_failures += 1
        self._deliver_error(entries, error, requested)
        for entry in entries:
            self._schedule.reschedule(entry, requested, now, chance)
        return []

    def _record_failure(self, error: LoopsError, requested: float) -> None:
        self._outage.record_failure(error, requested)
        self._timer.bring_forward(self._outage.report_at)

    # The answers

    async def _deliver_list(self, listing: Listing, requested: float, chance: float) -> int:
        """Deliver its row to each entry; return how many have one."""
        loop = asyncio.get_running_loop()
        schedule = self._schedule
        samplers = schedule.samplers
        # One time for all that this list changes, so that they also fall due together.
        now = loop.time()
        schedule.align_groups(requested, now, chance)
        found = 0
        until = now + DELIVERY_SLICE_S
        for index, row in enumerate(listing.rows):
            if not index & 15 and loop.time() > until:
                await asyncio.sleep(0)
                until = loop.time() + DELIVERY_SLICE_S
            entry = samplers.get(row.id) if row is not None else None
            if row is None or entry is None:
                continue
            found += 1
            entry.unlisted_until = -math.inf
            status = row.status.name
            if status == entry.group.status and not entry.must_notify:
                if entry.last_answer_at < requested:
                    entry.last_answer_at = requested
                    entry.due = entry.group.due
                continue
            self._deliver(entry, status, LazySampler(None, listing, index), requested, now)
            if not entry.subscribers:
                continue
            if entry.must_notify:
                schedule.reschedule(entry, requested, now, chance, after_list=True)
            else:
                schedule.align_to_group(entry, requested, now, chance)
        return found

    def _deliver(self, entry: PolledSampler, status: str, sampler: LazySampler, requested: float, now: float) -> None:
        """Deliver a status to the waits of *entry* that had subscribed when it was requested."""
        subscribers = entry.subscribers
        if requested < entry.last_answer_at or not subscribers:
            return
        entry.last_answer_at = requested
        entry.failures = 0
        if status != (previous := entry.group.status):
            status = self._schedule.set_status(entry, status, now)
            if logger.isEnabledFor(logging.INFO):
                _log_status(entry.sampler_id, previous, status)
            if entry.wake_task is not None:
                # The visit to SCALED_TO_ZERO is over, and its wake is not needed any more.
                entry.wake_task.cancel()
                entry.wake_task = None
            if status not in _KNOWN_STATUSES:
                self._warn_about_unknown(entry, status)
        must_notify = entry.has_mixed_policies
        done: list[Subscriber] = []
        for subscriber in subscribers:
            if subscriber.subscribed_at > requested:
                must_notify = True
                continue
            attention = subscriber.on_status(status, sampler, requested, now)
            if attention is NOTHING:
                done.append(subscriber)
            elif attention is EVERY_ANSWER or subscriber.deadline <= now:
                must_notify = True
        # A callback may have made another wait subscribe.
        entry.must_notify = must_notify or entry.subscribers is not subscribers
        if done:
            self._remove_done(entry, done)
        if status == SCALED_TO_ZERO and entry.wake_task is None:
            self._wake_if_wanted(entry, sampler)

    def _deliver_error(self, entries: Sequence[PolledSampler], error: LoopsError, requested: float) -> None:
        """Deliver a failure to the waits of *entries*, or to all if no later poll can succeed."""
        now = asyncio.get_running_loop().time()
        if action_for(error, POLL) is Action.END_ALL_WAITS:
            entries = list(self._schedule.samplers.values())
        for entry in entries:
            if requested < entry.last_answer_at:
                continue
            entry.failures += 1
            entry.must_notify = True
            done = [
                subscriber
                for subscriber in entry.subscribers
                if subscriber.subscribed_at <= requested and subscriber.on_error(error, requested, now)
            ]
            self._remove_done(entry, done)

    def _remove_done(self, entry: PolledSampler, done: list[Subscriber]) -> None:
        """Remove the subscribers that are *done*."""
        if done:
            gone = set(done)
            entry.subscribers = tuple(each for each in entry.subscribers if each not in gone)
            self._schedule.discard_if_unused(entry)

    # What else a status calls for

    def _wake_if_wanted(self, entry: PolledSampler, sampler: LazySampler) -> None:
        if _wants_wake(entry):
            try:
                asleep = sampler()
            except LoopsError as exc:
                self._deliver_error([entry], exc, entry.last_answer_at)
            else:
                entry.wake_task = self._spawn(self._wake(entry, asleep))

    async def _wake(self, entry: PolledSampler, sampler: Sampler) -> None:
        """Wake *sampler*, with retries until the visit to SCALED_TO_ZERO ends and this task is cancelled."""

        def is_worth_repeating(error: BaseException) -> bool:
            return action_for(error, READ) is Action.RETRY and _wants_wake(entry)

        def record(state: RetryCallState) -> None:
            if state.outcome is not None and isinstance(error := state.outcome.exception(), Exception):
                self._wake_failed(entry, error, state.attempt_number)

        retrying = AsyncRetrying(
            retry=retry_if_exception(is_worth_repeating),
            wait=PolicyBackoff(entry.group.policy),
            sleep=asyncio.sleep,
            before_sleep=record,
            reraise=True,
        )
        try:
            await retrying(self._reader.wake, sampler)
        except (LoopsError, ValueError) as exc:
            self._wake_failed(entry, exc, 1)

    def _wake_failed(self, entry: PolledSampler, error: Exception, attempt: int) -> None:
        """Record a failed wake. The sampler may wake up by itself, so the waits go on, and report this if they fail."""
        if attempt == 1:
            logger.warning("sampler %s is scaled to zero and could not be woken: %s", entry.sampler_id, error)
        for subscriber in entry.subscribers:
            subscriber.record_error(error)

    def _warn_about_unknown(self, entry: PolledSampler, status: str) -> None:
        warned = self._warned_statuses
        if not status or status in warned or len(warned) >= MAX_WARNED_STATUSES:
            return
        if any(status in each.policy.ready | each.policy.failed for each in entry.subscribers):
            return
        warned.add(status)
        logger.warning("sampler %s has the unknown status %r; waiting on", entry.sampler_id, status)


def _wants_wake(entry: PolledSampler) -> bool:
    return any(subscriber.policy.wake for subscriber in entry.subscribers)


def _log_status(sampler_id: str, previous: str | None, status: str) -> None:
    if previous is None:
        logger.info("sampler %s is %s", sampler_id, status)
    else:
        logger.info("sampler %s changed from %s to %s", sampler_id, previous, status)
