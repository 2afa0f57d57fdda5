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

EARLY_POLL_SHARE: Final = 0.1
"""Part of the smallest `initial` by which a look may come early to share a tick with others."""

JOIN_DELAY_SHARE: Final = 0.5
"""Part of `initial` after a tick for which those who join are gathered, lest each of a burst of creates is a tick."""

MAX_JOIN_DELAY_S: Final = 1.0
"""Seconds: who joins is not kept waiting for longer than that."""

IN_FLIGHT_PATIENCE_S: Final = 0.25
"""Seconds after which a wait that subscribed during a poll causes another one, since the first may hang."""

MAX_UNLISTED_S: Final = 60.0
"""Seconds at most for which a sampler that a list lacked is asked for by GET only."""

CROWD_SIZE: Final = 10
"""Number of samplers from which on the last stages are polled no faster than by `initial`."""

TICKS_PER_INITIAL: Final = 8
"""Ticks at most in `initial` seconds, once there is a crowd."""


class PollGroup:
    """How the samplers of one policy and status fall due after a list."""

    __slots__ = ("aligned_for", "due", "newest", "onward", "policy", "status")

    def __init__(self, policy: PollPolicy, status: str | None, now: float) -> None:
        self.policy = policy
        self.status = status
        self.newest = now
        """When the last of them came to this status: the keenest look sets the group."""
        self.aligned_for = -math.inf
        """The `newest` for which `due` was set."""
        self.onward: dict[str, PollGroup] = {}
        """The groups to which samplers of this one have gone on, by their status: a short cut."""
        self.due = now


class PolledSampler:
    """One sampler that is waited for, and by whom."""

    __slots__ = (
        "changed_at",
        "deadline",
        "due",
        "failures",
        "group",
        "has_mixed_policies",
        "in_flight",
        "last_answer_at",
        "must_notify",
        "sampler_id",
        "status",
        "subscribers",
        "unlisted_until",
        "wake_task",
    )

    def __init__(self, sampler_id: str, due: float, group: PollGroup) -> None:
        self.sampler_id = sampler_id
        self.subscribers: tuple[Subscriber, ...] = ()
        self.group = group
        self.status: str | None = None
        self.changed_at = due
        self.last_answer_at = -math.inf
        """When the newest answer that was told had been asked for."""
        self.due = due
        self.deadline = math.inf
        """Time of the first last look that is still to be taken."""
        self.failures = 0
        """Looks that failed since the last one that did not."""
        self.in_flight = False
        """Whether a look is under way, so that none falls due."""
        self.unlisted_until = -math.inf
        """Until when it is asked for by GET only, because a list lacked it."""
        self.has_mixed_policies = False
        """Whether its waits have, or had, different policies."""
        self.wake_task: asyncio.Task[None] | None = None
        """The wake of this visit to SCALED_TO_ZERO."""
        self.must_notify = True
        """Whether an answer must be shown to the waits even if the status is the same as before."""


class Schedule:
    """The samplers that are waited for, and when each is due."""

    def __init__(self) -> None:
        self.entries: dict[str, PolledSampler] = {}
        self._groups: dict[tuple[PollPolicy, str | None], PollGroup] = {}
        self._step = math.inf
        self._ticked_at = -math.inf

    def add(self, sampler_id: str, subscriber: Subscriber, now: float) -> PolledSampler:
        """Take a wait in; return the entry of its sampler."""
        if not self.entries:
            # Nobody was left, so that nothing is known any more.
            self._groups.clear()
            self._step, self._ticked_at = math.inf, -math.inf
        policy = subscriber.policy
        due = max(now, self._ticked_at + min(JOIN_DELAY_SHARE * policy.initial, MAX_JOIN_DELAY_S))
        entry = self.entries.get(sampler_id)
        if entry is None:
            entry = self.entries[sampler_id] = PolledSampler(sampler_id, due, self._group(policy, None, due))
        elif policy != entry.group.policy:
            entry.has_mixed_policies = True
        entry.subscribers = (*entry.subscribers, subscriber)
        entry.must_notify = True
        entry.due = min(entry.due, due)
        entry.deadline = min(entry.deadline, subscriber.deadline)
        self._step = min(self._step, policy.initial)
        return entry

    def discard_if_unused(self, entry: PolledSampler) -> None:
        """Forget *entry* if nobody waits for it any more."""
        # A late answer to waits that have gone must not take the entry of those that came after them.
        if not entry.subscribers and self.entries.get(entry.sampler_id) is entry:
            del self.entries[entry.sampler_id]
            if entry.wake_task is not None:
                entry.wake_task.cancel()

    def tick(self, now: float) -> tuple[list[PolledSampler], list[PolledSampler], float]:
        """Return the entries whose deadline has come, those that are due, and when the next one is either."""
        self._ticked_at = now
        horizon = now + EARLY_POLL_SHARE * self._step
        late: list[PolledSampler] = []
        due: list[PolledSampler] = []
        upcoming = math.inf
        for entry in self.entries.values():
            if entry.deadline <= now:
                late.append(entry)
                continue
            upcoming = min(upcoming, entry.deadline)
            if not entry.in_flight:
                if entry.due <= horizon:
                    due.append(entry)
                elif entry.due < upcoming:
                    upcoming = entry.due
            elif entry.must_notify and entry.due < math.inf:
                # What is in flight is no answer for those that subscribed since, and may hang.
                if entry.due + IN_FLIGHT_PATIENCE_S <= now:
                    due.append(entry)
                else:
                    upcoming = min(upcoming, entry.due + IN_FLIGHT_PATIENCE_S)
        return late, due, upcoming

    def set_status(self, entry: PolledSampler, status: str, now: float) -> None:
        """Record that *entry* came to *status*."""
        entry.status, entry.changed_at = status, now
        group = entry.group.onward.get(status)
        if group is None:
            group = entry.group.onward[status] = self._group(entry.group.policy, status, now)
        elif group.newest < now:
            group.newest = now
        entry.group = group

    def align_groups(self, requested: float, now: float, chance: float) -> None:
        """Set when those fall due that a list is about to serve; *chance*, from 0 to 1, is the jitter's."""
        if len(self._groups) > len(self.entries):
            self._groups = {(entry.group.policy, entry.group.status): entry.group for entry in self.entries.values()}
            for group in self._groups.values():
                group.onward.clear()
        for group in self._groups.values():
            self._align(group, requested, now, chance)

    def align_to_group(self, entry: PolledSampler, requested: float, now: float, chance: float) -> None:
        """Have *entry*, whose status a list has changed, fall due with those of that status."""
        if entry.group.aligned_for != entry.group.newest:
            self._align(entry.group, requested, now, chance)
        entry.due = entry.group.due

    def _align(self, group: PollGroup, requested: float, now: float, chance: float) -> None:
        group.aligned_for = group.newest
        pause = self._pause(group.policy, now - group.newest, group.status, chance)
        group.due = _after(requested, now, pause)

    def reschedule(self, entry: PolledSampler, requested: float, now: float, chance: float) -> float:
        """Set when *entry* falls due by its own course, after an answer to what was *requested* then; return it."""
        policy = entry.group.policy
        policies = {subscriber.policy for subscriber in entry.subscribers} if entry.has_mixed_policies else {policy}
        if any(subscriber.subscribed_at > requested for subscriber in entry.subscribers):
            due = now
        elif entry.failures:
            due = now + min(each.jittered(each.backoff(entry.failures), chance) for each in policies)
        else:
            elapsed = now - entry.changed_at
            due = _after(requested, now, min(self._pause(each, elapsed, entry.status, chance) for each in policies))
        if len(self.entries) > CROWD_SIZE:
            grid = policy.initial / TICKS_PER_INITIAL
            due = math.ceil(due / grid) * grid
        for subscriber in entry.subscribers:
            # Not once it is past: then only the schedule says when it is worth asking again. And not too early.
            if now < (by := subscriber.next_required_poll()):
                due = min(due, by + min(EARLY_POLL_SHARE * self._step, 0.05))
        entry.due = due
        return due

    def not_listed(self, entry: PolledSampler, now: float) -> None:
        """Record that a list lacked *entry*; lists can lag, so that it is tried again later and later."""
        again = min(MAX_UNLISTED_S, max(2 * entry.group.policy.initial, now - entry.changed_at))
        entry.unlisted_until = now + again

    def _group(self, policy: PollPolicy, status: str | None, now: float) -> PollGroup:
        group = self._groups.get((policy, status))
        if group is None:
            group = self._groups[policy, status] = PollGroup(policy, status, now)
        group.newest = max(group.newest, now)
        return group

    def _pause(self, policy: PollPolicy, elapsed: float, status: str | None, chance: float) -> float:
        least = policy.initial * min(1.0, (len(self.entries) - 1) / CROWD_SIZE)
        return policy.jittered(max(least, policy.pause(elapsed, status)), chance)


def _after(requested: float, now: float, pause: float) -> float:
    """Return the time of the look after the one that was *requested* then and answered *now*.

    Pauses count from request to request, so that answers which take their time do not stretch them; a part of the
    pause is kept after an answer that took longer, lest a slow service is asked without a pause.
    """
    return max(requested + pause, now + 0.25 * pause)
