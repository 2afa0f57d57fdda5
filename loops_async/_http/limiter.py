"""When a request may start: one `RequestLimiter` per client grants the slots.

A request waits here for four things:

- **A slot.** At most `limit` requests are in flight. Waiting here rather than in aiohttp's pool keeps the queue out of
  the request timeouts.
- **The client's pause.** A `Retry-After` header stops all requests of the client until it is over.
- **The endpoint's pause.** The service also names a pause in the body of its 429. It counts each endpoint by itself, so
  that only requests of that endpoint wait.
- **The endpoint's rate.** At most `rate` requests of one endpoint start within any second, which is the limit that the
  service publishes. Without that, a launch of a thousand would spend most of its requests on being refused.

Those that wait stand in one queue per priority and endpoint, so that an endpoint that may not start anything holds up
no other. The most urgent queue goes first: deactivations, then creates, then polls and other reads. So that a long
queue of one kind does not starve the others, every eighth slot under contention goes to the least urgent one instead.

Final requests, the last chance before a deadline, wait for no pause and have slots of their own: whatever hangs in the
other slots must not take that chance from them. Their rate is limited as for all others.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from enum import IntEnum
from typing import Final

RATE_MARGIN_S: Final = 0.05
"""Seconds that are added to the second of the rate: the network delays some requests more than others, so that what
starts here just outside of a second could arrive there within one."""

UNLIMITED_RATE: Final = 1e5
"""Requests a second that no client reaches: such a rate is no limit."""

BURST_SHARE: Final = 0.5
"""Part of the rate that may start at one moment. A larger burst would keep the service busy, and so arrive there over
a longer time than the next one: both could meet in one of its seconds."""

SPREAD_SHARE: Final = 0.5
"""Once a burst has started, the others start within this part of the second, not evenly over all of it: the last second
of a launch then ends earlier."""

RATE_STEP_S: Final = 0.05
"""Seconds between the groups in which they start. If each request started by itself, the process would wake up a
hundred times a second, and each time handle a single event, which costs more CPU than the requests."""

LEAST_URGENT_EVERY: Final = 8
"""Of so many slots that are granted past a less urgent queue, the last goes to that queue."""


class Priority(IntEnum):
    """How urgent a request is; smaller goes first."""

    FINAL_DEACTIVATION = 0
    """The last attempt to deactivate a sampler before the time for that is over."""
    FINAL_POLL = 1
    """The poll at the deadline of a wait."""
    DEACTIVATION = 2
    """Whatever ends a bill."""
    CREATE = 3
    READ = 4
    """Polls and all other reads."""
    DATA_PLANE = 5
    """Requests to the samplers' own addresses: a data plane that hangs must not take the control plane's slots."""


_FINAL: Final = frozenset({Priority.FINAL_DEACTIVATION, Priority.FINAL_POLL})


class Endpoint:
    """The limits of one endpoint (method and route) of the control plane. Times are the event loop's."""

    __slots__ = ("_burst", "_group", "_spacing", "_window", "paused_until", "started")

    def __init__(self, rate: float | None) -> None:
        self.paused_until = -math.inf
        """Until when no request of the endpoint starts, final ones excepted."""
        most = 0 if rate is None else max(1, int(rate))
        self.started: deque[float] = deque(maxlen=most)
        """When the last requests started, as many as may start within the window; empty if the rate is not limited."""
        # One request in two seconds is a rate, too.
        self._window = 0.0 if rate is None else max(1.0, most / rate) + RATE_MARGIN_S
        self._burst = max(1, int(BURST_SHARE * most))
        self._spacing = SPREAD_SHARE * self._window / max(1, most)
        self._group = min(self._burst, max(1, round(RATE_STEP_S / self._spacing))) if most else 1

    def ready_at(self, final: bool) -> float:
        """Return the time from which a further request may start."""
        at = -math.inf if final else self.paused_until
        started = self.started
        if not started:
            return at
        if len(started) == started.maxlen:
            at = max(at, started[0] + self._window)
        if len(started) > self._burst and started[-1] - started[-self._burst] < self._window:
            at = max(at, started[-self._group] + self._group * self._spacing)
        return at


class Slot:
    """Permission to send one request, which `RequestLimiter.acquire()` gives."""

    __slots__ = ("_limiter", "_priority")

    def __init__(self, limiter: RequestLimiter, priority: Priority) -> None:
        self._limiter = limiter
        self._priority = priority

    def release(self) -> None:
        """Give the slot back, once for each `acquire()`."""
        self._limiter._release(self._priority)


_Waiter = asyncio.Future[None]


class RequestLimiter:
    """Grant slots to requests, the most urgent first.

    Args:
        limit: Requests in flight at once. Final deactivations and final polls have as many slots of their own, each;
            requests to the data plane have a quarter of these at most.
        rate: Requests of one endpoint that start within any second; None for no limit.
    """

    def __init__(self, limit: int, rate: float | None = None) -> None:
        self._limit = limit
        self._rate = rate if rate is not None and rate < UNLIMITED_RATE else None
        self._in_use = dict.fromkeys(Priority, 0)
        self._shared_in_use = 0
        """Slots in use of those that are not final."""
        self._slots = {priority: Slot(self, priority) for priority in Priority}
        self._endpoints: dict[str, Endpoint] = {}
        self._queues: dict[Priority, dict[Endpoint, deque[_Waiter]]] = {priority: {} for priority in Priority}
        self._passed_over = 0
        self._paused_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    async def acquire(self, priority: Priority, endpoint: str = "") -> Slot:
        """Wait until a request of *endpoint* may start, and return its slot. A cancellation leaves nothing taken.

        The empty name stands for all requests that nothing limits but slots.
        """
        limits = self._endpoints.get(endpoint) or self._add_endpoint(endpoint)
        loop = asyncio.get_running_loop()
        now = loop.time()
        if any(self._queues.values()) or self._ready_at(priority, limits) > now:
            await self._queue_up(priority, limits)
        else:
            self._take(priority, limits, now)
        return self._slots[priority]

    def lower_limit(self, limit: int) -> None:
        """Have no more than *limit* requests in flight from now on."""
        self._limit = min(self._limit, limit)

    @property
    def data_plane_limit(self) -> int:
        """How many requests to the data plane may be in flight at once."""
        return max(1, self._limit // 4)

    @property
    def rate(self) -> float | None:
        """Requests of one endpoint that start within any second; None for no limit."""
        return self._rate

    def pause(self, seconds: float, endpoint: str | None = None) -> None:
        """Start no request of *endpoint*, or of the whole client, for *seconds*; a longer pause goes on."""
        until = asyncio.get_running_loop().time() + seconds
        if endpoint is None:
            self._paused_until = max(self._paused_until, until)
        else:
            paused = self._endpoints.get(endpoint) or self._add_endpoint(endpoint)
            paused.paused_until = max(paused.paused_until, until)

    def pause_remaining(self, endpoint: str = "") -> float:
        """Return the seconds until the pauses are over that a request of *endpoint* waits for; 0.0 without any."""
        known = self._endpoints.get(endpoint)
        until = max(self._paused_until, known.paused_until if known is not None else -math.inf)
        return max(0.0, until - asyncio.get_running_loop().time())

    def close(self) -> None:
        """Let through what waits and will not be sent any more, so that it learns that the client is closed.

        Deactivations and final polls are still sent, and so still wait for their turn.
        """
        for priority in (Priority.CREATE, Priority.READ, Priority.DATA_PLANE):
            queues, self._queues[priority] = self._queues[priority], {}
            for waiter in (each for queue in queues.values() for each in queue if not each.done()):
                self._in_use[priority] += 1
                self._shared_in_use += 1
                waiter.set_result(None)

    def _add_endpoint(self, name: str) -> Endpoint:
        endpoint = self._endpoints[name] = Endpoint(self._rate if name else None)
        return endpoint

    async def _queue_up(self, priority: Priority, endpoint: Endpoint) -> None:
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        queue = self._queues[priority].setdefault(endpoint, deque())
        queue.append(waiter)
        if len(queue) == 1:
            # Behind others, it starts when they have: what lets those start is under way.
            self._grant()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # The slot was granted in the very moment in which the cancellation came.
                self._release(priority)
            else:
                waiter.cancel()
            raise

    def _release(self, priority: Priority) -> None:
        self._in_use[priority] -= 1
        if priority not in _FINAL:
            self._shared_in_use -= 1
        if any(self._queues.values()):
            self._grant()

    def _ready_at(self, priority: Priority, endpoint: Endpoint) -> float:
        """Return the time from which a request may start; infinity while there is no slot for it."""
        if priority in _FINAL:
            if self._in_use[priority] >= self._limit:
                return math.inf
            return endpoint.ready_at(final=True)
        if self._shared_in_use >= self._limit:
            return math.inf
        if priority is Priority.DATA_PLANE and self._in_use[priority] >= self.data_plane_limit:
            return math.inf
        return max(self._paused_until, endpoint.ready_at(final=False))

    def _take(self, priority: Priority, endpoint: Endpoint, now: float) -> None:
        self._in_use[priority] += 1
        if priority not in _FINAL:
            self._shared_in_use += 1
        endpoint.started.append(now)

    def _grant(self) -> None:
        """Let start what may start now, and come back when the next one may."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            ready, next_at = self._ready(now)
            if not ready:
                break
            priority, endpoint = ready[0]
            # Under contention for the shared slots only: a final request takes none of them.
            if len(ready) > 1 and priority not in _FINAL:
                self._passed_over += 1
                if self._passed_over == LEAST_URGENT_EVERY:
                    self._passed_over = 0
                    priority, endpoint = ready[-1]
            self._take(priority, endpoint, now)
            self._pop(priority, endpoint).set_result(None)
        self._set_timer(loop, next_at)

    def _ready(self, now: float) -> tuple[list[tuple[Priority, Endpoint]], float]:
        """Return the queues whose first request may start now, most urgent first, and when else one may."""
        ready: list[tuple[Priority, Endpoint]] = []
        next_at = math.inf
        for priority, queues in self._queues.items():
            for endpoint in list(queues):
                if not self._has_waiter(queues, endpoint):
                    continue
                at = self._ready_at(priority, endpoint)
                if at <= now:
                    ready.append((priority, endpoint))
                else:
                    next_at = min(next_at, at)
        return ready, next_at

    def _has_waiter(self, queues: dict[Endpoint, deque[_Waiter]], endpoint: Endpoint) -> bool:
        """Drop the cancelled ones at the head of a queue; return whether a request is left in it."""
        queue = queues[endpoint]
        while queue and queue[0].done():
            queue.popleft()
        if not queue:
            del queues[endpoint]
        return bool(queue)

    def _pop(self, priority: Priority, endpoint: Endpoint) -> _Waiter:
        queues = self._queues[priority]
        queue = queues.pop(endpoint)
        waiter = queue.popleft()
        if queue:
            # To the end, so that the endpoints of one priority take turns.
            queues[endpoint] = queue
        return waiter

    def _set_timer(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if at >= self._timer_at and at < math.inf:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf
        if at < math.inf:
            self._timer, self._timer_at = loop.call_at(at, self._on_timer), at

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._grant()
