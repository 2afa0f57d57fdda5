"""When each sampler is polled next. No I/O; times are the event loop's.

The rules, in the order in which they apply:

1. *First poll.* At once. If the last tick was less than half of `initial` ago (a second at most), at the end of that
   time, so that waits which begin one after the other share a poll.
2. *Next poll.* One pause after the request of the last one. The pause follows from the policy and from the time since
   the status last changed: `PollPolicy.pause()`. With many samplers, the pauses that are shorter than `initial` grow
   towards it: by `(n - 1) / 10` of `initial`.
3. *After a failed poll.* One `PollPolicy.backoff()` after the failure.
4. *Earlier than that*, when a grace period of a wait ends, or its deadline.
5. *Together.* A tick takes what is due, and what will be within a tenth of its policy's `initial`.

So a pause is computed in `_pause()`, jitter included, and may still end a little earlier by rule 4 or 5.

A list serves all samplers at once, so it also reschedules all of them. Those of one policy and one status form a
`PollGroup` and fall due together, by the one that came to the status last. What is polled by GET is rescheduled sampler
by sampler.

For example, let A and B be a hundred samplers each, with `initial=2`, `factor=1.5` and no jitter. All are BUILDING when
they are first polled, and those of B are DEPLOYING in the second list:

```text
seconds   0            2                     4               7
          list         list                  list            list
A         BUILDING,    BUILDING,             due at 8        due at 12.5
          due at 2     due at 5
B         BUILDING,    DEPLOYING: starts     due at 7        due at 11.5
          due at 2     again, due at 4
```

The lists at 4 and 7 are caused by B, and serve A as well. Had B been a single sampler, it would have been polled by a
GET at 4 and 7, and A by a list at 5: what is cheaper is decided again at each tick, for what is due then.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from .interfaces import Subscriber
from .policy import PollPolicy

EARLY_POLL_SHARE: Final = 0.1
"""Share of `initial` by which a poll may be early in order to share a tick with others."""

JOIN_DELAY_SHARE: Final = 0.5
"""Share of `initial` after a tick for which the first polls of new waits are gathered."""

MAX_JOIN_DELAY_S: Final = 1.0
"""Longest time in seconds for which the first poll of a new wait is delayed."""

IN_FLIGHT_PATIENCE_S: Final = 0.25
"""Seconds after which a wait that subscribed during a poll of its sampler gets another one: the first may hang."""

MAX_UNLISTED_S: Final = 60.0
"""Longest time in seconds for which a sampler that was missing in a list is polled by GET only."""

CROWD_SIZE: Final = 10
"""Number of other samplers from which on no pause is shorter than `initial`."""

REQUIRED_POLL_MARGIN_S: Final = 0.05
"""Seconds after the end of a grace period at which the sampler is polled. By rule 5 the poll may be sent before that
end, and is then repeated after it."""


class PollGroup:
    """The samplers of one policy and one status; after a list, they fall due together."""

    __slots__ = ("aligned_for", "due", "newest_change_at", "policy", "siblings", "size", "slack", "status")

    def __init__(self, policy: PollPolicy, status: str | None, siblings: dict[str | None, PollGroup]) -> None:
        self.policy = policy
        self.status = status
        self.siblings = siblings
        """The groups of the same policy by their status, this one included."""
        self.size = 0
        """Number of samplers in the group."""
        self.slack = EARLY_POLL_SHARE * policy.initial
        """Seconds by which a poll may be early."""
        self.newest_change_at = -math.inf
        """Time at which the last of them came to the status; it sets the pace of all."""
        self.aligned_for = -math.inf
        """The `newest_change_at` for which `due` was computed."""
        self.due = math.inf
        """Time at which the group is due after a list."""


class PolledSampler:
    """One sampler that is polled, and the waits that subscribed to it."""

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
        "subscribers",
        "unlisted_until",
        "wake_task",
    )

    def __init__(self, sampler_id: str, due: float, group: PollGroup) -> None:
        self.sampler_id = sampler_id
        self.subscribers: tuple[Subscriber, ...] = ()
        self.group = group
        """The group of the sampler's status; of several policies, that of the first subscriber."""
        self.changed_at = due
        """Time at which the status was first seen."""
        self.last_answer_at = -math.inf
        """Time of the request to which the newest answer was delivered."""
        self.due = due
        """Time of the next poll; infinity while one is in flight and no wait has subscribed since."""
        self.deadline = math.inf
        """Time of the next final poll of a subscriber."""
        self.failures = 0
        """Number of failed polls since the last good one."""
        self.in_flight = False
        """Whether a poll is in flight."""
        self.unlisted_until = -math.inf
        """Time until which the sampler is polled by GET only, because a list lacked it."""
        self.has_mixed_policies = False
        """Whether the subscribers have, or had, different policies."""
        self.wake_task: asyncio.Task[None] | None = None
        """The wake of this visit to SCALED_TO_ZERO."""
        self.must_notify = True
        """Whether the next answer is delivered even if the status is the same as before."""


class Schedule:
    """The samplers that are polled, and when each is due."""

    def __init__(self) -> None:
        self.samplers: dict[str, PolledSampler] = {}
        self._groups: dict[PollPolicy, dict[str | None, PollGroup]] = {}
        self._last_tick_at = -math.inf

    def add(self, sampler_id: str, subscriber: Subscriber, now: float) -> PolledSampler:
        """Add a subscriber; return the entry of its sampler."""
        policy = subscriber.policy
        due = max(now, self._last_tick_at + _join_delay(policy))
        entry = self.samplers.get(sampler_id)
        if entry is None:
            group = _group(self._groups.setdefault(policy, {}), policy, None, due)
            entry = self.samplers[sampler_id] = PolledSampler(sampler_id, due, group)
        elif policy != entry.group.policy:
            entry.has_mixed_policies = True
        entry.subscribers = (*entry.subscribers, subscriber)
        entry.must_notify = True
        entry.due = min(entry.due, due)
        entry.deadline = min(entry.deadline, subscriber.deadline)
        return entry

    def discard_if_unused(self, entry: PolledSampler) -> None:
        """Forget *entry* if no subscriber is left."""
        # A late answer to waits that have gone must not remove the entry of those that came after them.
        if entry.subscribers or self.samplers.get(entry.sampler_id) is not entry:
            return
        del self.samplers[entry.sampler_id]
        entry.group.size -= 1
        if entry.wake_task is not None:
            entry.wake_task.cancel()
        if not self.samplers:
            self.clear()

    def clear(self) -> list[PolledSampler]:
        """Forget all samplers; return them."""
        entries = list(self.samplers.values())
        self.samplers.clear()
        self._groups.clear()
        # The next wait may come much later, and need not be gathered with anything.
        self._last_tick_at = -math.inf
        return entries

    def tick(self, now: float) -> tuple[list[PolledSampler], list[PolledSampler], float]:
        """Return the entries whose deadline has come, those that are due, and the time of the next of either."""
        self._last_tick_at = now
        self._drop_empty_groups()
        late: list[PolledSampler] = []
        due: list[PolledSampler] = []
        upcoming = math.inf
        for entry in self.samplers.values():
            if entry.deadline <= now:
                late.append(entry)
                continue
            upcoming = min(upcoming, entry.deadline)
            if not entry.in_flight:
                if entry.due - entry.group.slack <= now:
                    due.append(entry)
                elif entry.due < upcoming:
                    upcoming = entry.due
            elif entry.must_notify and entry.due < math.inf:
                # The poll in flight is no answer to a wait that subscribed since, and may hang.
                if entry.due + IN_FLIGHT_PATIENCE_S <= now:
                    due.append(entry)
                else:
                    upcoming = min(upcoming, entry.due + IN_FLIGHT_PATIENCE_S)
        return late, due, upcoming

    def set_status(self, entry: PolledSampler, status: str, now: float) -> str:
        """Record that *entry* came to *status*; return the one string for it that all samplers of the group share."""
        entry.changed_at = now
        left = entry.group
        group = left.siblings.get(status)
        if group is None:
            group = left.siblings[status] = PollGroup(left.policy, status, left.siblings)
        entry.group = group
        group.size += 1
        group.newest_change_at = now
        left.size -= 1
        return group.status or status

    def _drop_empty_groups(self) -> None:
        # Not as soon as they are empty: ten thousand samplers that come to a status and are done would each make one.
        for policy, groups in list(self._groups.items()):
            for group in list(groups.values()):
                if not group.size:
                    del groups[group.status]
            if not groups:
                del self._groups[policy]

    def align_groups(self, requested: float, now: float, chance: float) -> None:
        """Compute when each group is due after a list; *chance*, from 0 to 1, is that of the jitter."""
        for groups in self._groups.values():
            for group in groups.values():
                self._align(group, requested, now, chance)

    def align_to_group(self, entry: PolledSampler, requested: float, now: float, chance: float) -> None:
        """Let *entry*, whose status a list has changed, fall due with its new group."""
        if entry.group.aligned_for != entry.group.newest_change_at:
            self._align(entry.group, requested, now, chance)
        entry.due = entry.group.due

    def _align(self, group: PollGroup, requested: float, now: float, chance: float) -> None:
        group.aligned_for = group.newest_change_at
        pause = self._pause(group.policy, now - group.newest_change_at, group.status, chance)
        group.due = _after(requested, now, pause)

    def reschedule(
        self, entry: PolledSampler, requested: float, now: float, chance: float, *, after_list: bool = False
    ) -> float:
        """Compute when *entry* is due after a poll of its own that was *requested* then; return that time."""
        policy, status = entry.group.policy, entry.group.status
        policies = {each.policy for each in entry.subscribers} if entry.has_mixed_policies else {policy}
        if any(each.subscribed_at > requested for each in entry.subscribers):
            # Their first poll is still to come. After a list it is gathered as that of any new wait.
            due = max(now, requested + _join_delay(policy)) if after_list else now
        elif entry.failures:
            due = now + min(each.jittered(each.backoff(entry.failures), chance) for each in policies)
        else:
            elapsed = now - entry.changed_at
            due = _after(requested, now, min(self._pause(each, elapsed, status, chance) for each in policies))
        for each in entry.subscribers:
            # Once that time is past, only the schedule says when it is worth polling again.
            if now < (required := each.next_required_poll()):
                due = min(due, required + min(entry.group.slack, REQUIRED_POLL_MARGIN_S))
        entry.due = due
        return due

    def not_listed(self, entry: PolledSampler, now: float) -> None:
        """Record that a list lacked *entry*. Lists can lag, so they are tried again, after longer and longer times."""
        again = min(MAX_UNLISTED_S, max(2 * entry.group.policy.initial, now - entry.changed_at))
        entry.unlisted_until = now + again

    def _pause(self, policy: PollPolicy, elapsed: float, status: str | None, chance: float) -> float:
        crowd_pause = policy.initial * min(1.0, (len(self.samplers) - 1) / CROWD_SIZE)
        return policy.jittered(max(crowd_pause, policy.pause(elapsed, status)), chance)


def _group(siblings: dict[str | None, PollGroup], policy: PollPolicy, status: str | None, now: float) -> PollGroup:
    """Return the group of *status* among *siblings*, with one sampler more, which came to the status just now."""
    group = siblings.get(status)
    if group is None:
        group = siblings[status] = PollGroup(policy, status, siblings)
    group.size += 1
    group.newest_change_at = max(group.newest_change_at, now)
    return group


def _join_delay(policy: PollPolicy) -> float:
    """Return the seconds after a tick for which the first polls of new waits are gathered."""
    return min(JOIN_DELAY_SHARE * policy.initial, MAX_JOIN_DELAY_S)


def _after(requested: float, now: float, pause: float) -> float:
    """Return the time of the poll after the one that was *requested* then and answered *now*.

    Pauses count from request to request, so that slow answers do not stretch them. A quarter of the pause is kept
    after any answer, so that a service which takes longer than the pause is not asked without a break.
    """
    return max(requested + pause, now + 0.25 * pause)
