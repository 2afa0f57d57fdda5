"""When which sampler is looked at next. No I/O; times are the event loop's.

Each sampler that is waited for falls due by its own course: how long it has been in its status, and what its policy
makes of that. A list, which serves all of them at once, draws them together again: those of one policy and status
then fall due at one time, that of the one which came to the status last.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from .interfaces import Subscriber
from .policy import PollPolicy

SLACK: Final = 0.1
"""Part of the smallest `initial` by which a look may come early to share a tick with others."""

JOINING: Final = 0.5
"""Part of `initial` after a tick for which those who join are gathered, lest each of a burst of creates is a tick."""

JOINING_AT_MOST: Final = 1.0
"""Seconds: who joins is not kept waiting for longer than that."""

PATIENCE: Final = 0.25
"""Seconds after which somebody who joined while a look is in flight has a look taken past it: it may hang."""

LISTED_AGAIN: Final = 60.0
"""Seconds at most for which a sampler that a list lacked is asked for by GET only."""

CROWD: Final = 10
"""Number of samplers from which on the last stages are polled no faster than by `initial`."""

GRID: Final = 8
"""Ticks at most in `initial` seconds, once there is a crowd."""


class PollGroup:
    """How the samplers of one policy and status fall due after a list."""

    __slots__ = ("drawn", "due", "newest", "onward", "policy", "status")

    def __init__(self, policy: PollPolicy, status: str | None, now: float) -> None:
        self.policy = policy
        self.status = status
        self.newest = now
        """When the last of them came to this status: the keenest look sets the pace."""
        self.drawn = -math.inf
        """The `newest` for which `due` was set."""
        self.onward: dict[str, PollGroup] = {}
        """The paces to which samplers of this one have gone on, by their status: a short cut."""
        self.due = now


class PolledSampler:
    """One sampler that is waited for, and by whom."""

    __slots__ = (
        "asking",
        "changed_at",
        "deadline",
        "due",
        "failures",
        "keen",
        "mixed",
        "pace",
        "sampler_id",
        "served_at",
        "status",
        "unlisted_until",
        "watchers",
        "woken",
    )

    def __init__(self, sampler_id: str, due: float, pace: PollGroup) -> None:
        self.sampler_id = sampler_id
        self.watchers: tuple[Subscriber, ...] = ()
        self.pace = pace
        self.status: str | None = None
        self.changed_at = due
        self.served_at = -math.inf
        """When the newest answer that was told had been asked for."""
        self.due = due
        self.deadline = math.inf
        """Time of the first last look that is still to be taken."""
        self.failures = 0
        """Looks that failed since the last one that did not."""
        self.asking = False
        """Whether a look is under way, so that none falls due."""
        self.unlisted_until = -math.inf
        """Until when it is asked for by GET only, because a list lacked it."""
        self.mixed = False
        """Whether its waits have, or had, different policies."""
        self.woken: asyncio.Task[None] | None = None
        """The wake of this visit to SCALED_TO_ZERO."""
        self.keen = True
        """Whether an answer must be shown to the waits even if the status is the same as before."""


class Schedule:
    """The samplers that are waited for, and when each is due."""

    def __init__(self) -> None:
        self.entries: dict[str, PolledSampler] = {}
        self._paces: dict[tuple[PollPolicy, str | None], PollGroup] = {}
        self._step = math.inf
        self._ticked_at = -math.inf

    def add(self, sampler_id: str, watcher: Subscriber, now: float) -> PolledSampler:
        """Take a wait in; return the entry of its sampler."""
        if not self.entries:
            # Nobody was left, so that nothing is known any more.
            self._paces.clear()
            self._step, self._ticked_at = math.inf, -math.inf
        policy = watcher.policy
        due = max(now, self._ticked_at + min(JOINING * policy.initial, JOINING_AT_MOST))
        entry = self.entries.get(sampler_id)
        if entry is None:
            entry = self.entries[sampler_id] = PolledSampler(sampler_id, due, self._pace(policy, None, due))
        elif policy != entry.pace.policy:
            entry.mixed = True
        entry.watchers = (*entry.watchers, watcher)
        entry.keen = True
        entry.due = min(entry.due, due)
        entry.deadline = min(entry.deadline, watcher.deadline)
        self._step = min(self._step, policy.initial)
        return entry

    def drop_if_idle(self, entry: PolledSampler) -> None:
        """Forget *entry* if nobody waits for it any more."""
        # A late answer to waits that have gone must not take the entry of those that came after them.
        if not entry.watchers and self.entries.get(entry.sampler_id) is entry:
            del self.entries[entry.sampler_id]
            if entry.woken is not None:
                entry.woken.cancel()

    def tick(self, now: float) -> tuple[list[PolledSampler], list[PolledSampler], float]:
        """Return the entries whose deadline has come, those that are due, and when the next one is either."""
        self._ticked_at = now
        horizon = now + SLACK * self._step
        late: list[PolledSampler] = []
        due: list[PolledSampler] = []
        upcoming = math.inf
        for entry in self.entries.values():
            if entry.deadline <= now:
                late.append(entry)
                continue
            upcoming = min(upcoming, entry.deadline)
            if not entry.asking:
                if entry.due <= horizon:
                    due.append(entry)
                elif entry.due < upcoming:
                    upcoming = entry.due
            elif entry.keen and entry.due < math.inf:
                # What is in flight tells those who joined since nothing, and may hang.
                if entry.due + PATIENCE <= now:
                    due.append(entry)
                else:
                    upcoming = min(upcoming, entry.due + PATIENCE)
        return late, due, upcoming

    def set_status(self, entry: PolledSampler, status: str, now: float) -> None:
        """Record that *entry* came to *status*."""
        entry.status, entry.changed_at = status, now
        pace = entry.pace.onward.get(status)
        if pace is None:
            pace = entry.pace.onward[status] = self._pace(entry.pace.policy, status, now)
        elif pace.newest < now:
            pace.newest = now
        entry.pace = pace

    def draw_together(self, requested: float, now: float, chance: float) -> None:
        """Set when those fall due that a list is about to serve; *chance*, from 0 to 1, is the jitter's."""
        if len(self._paces) > len(self.entries):
            self._paces = {(entry.pace.policy, entry.pace.status): entry.pace for entry in self.entries.values()}
            for pace in self._paces.values():
                pace.onward.clear()
        for pace in self._paces.values():
            self._draw(pace, requested, now, chance)

    def fall_in(self, entry: PolledSampler, requested: float, now: float, chance: float) -> None:
        """Have *entry*, whose status a list has changed, fall due with those of that status."""
        if entry.pace.drawn != entry.pace.newest:
            self._draw(entry.pace, requested, now, chance)
        entry.due = entry.pace.due

    def _draw(self, pace: PollGroup, requested: float, now: float, chance: float) -> None:
        pace.drawn = pace.newest
        pause = self._pause(pace.policy, now - pace.newest, pace.status, chance)
        pace.due = _after(requested, now, pause)

    def reschedule(self, entry: PolledSampler, requested: float, now: float, chance: float) -> float:
        """Set when *entry* falls due by its own course, after an answer to what was *requested* then; return it."""
        policy = entry.pace.policy
        policies = {watcher.policy for watcher in entry.watchers} if entry.mixed else {policy}
        if any(watcher.joined > requested for watcher in entry.watchers):
            due = now
        elif entry.failures:
            due = now + min(each.jittered(each.backoff(entry.failures), chance) for each in policies)
        else:
            elapsed = now - entry.changed_at
            due = _after(requested, now, min(self._pause(each, elapsed, entry.status, chance) for each in policies))
        if len(self.entries) > CROWD:
            grid = policy.initial / GRID
            due = math.ceil(due / grid) * grid
        for watcher in entry.watchers:
            # Not once it is past: then only the schedule says when it is worth asking again. And not too early.
            if now < (by := watcher.due_by()):
                due = min(due, by + min(SLACK * self._step, 0.05))
        entry.due = due
        return due

    def not_listed(self, entry: PolledSampler, now: float) -> None:
        """Record that a list lacked *entry*; lists can lag, so that it is tried again later and later."""
        again = min(LISTED_AGAIN, max(2 * entry.pace.policy.initial, now - entry.changed_at))
        entry.unlisted_until = now + again

    def _pace(self, policy: PollPolicy, status: str | None, now: float) -> PollGroup:
        pace = self._paces.get((policy, status))
        if pace is None:
            pace = self._paces[policy, status] = PollGroup(policy, status, now)
        pace.newest = max(pace.newest, now)
        return pace

    def _pause(self, policy: PollPolicy, elapsed: float, status: str | None, chance: float) -> float:
        least = policy.initial * min(1.0, (len(self.entries) - 1) / CROWD)
        return policy.jittered(max(least, policy.pause(elapsed, status)), chance)


def _after(requested: float, now: float, pause: float) -> float:
    """Return the time of the look after the one that was *requested* then and answered *now*.

    Pauses count from request to request, so that answers which take their time do not stretch them; a part of the
    pause is kept after an answer that took longer, lest a slow service is asked without a pause.
    """
    return max(requested + pause, now + 0.25 * pause)
