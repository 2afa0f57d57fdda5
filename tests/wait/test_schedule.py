"""The rules at the top of `schedule.py`, with given times."""

from __future__ import annotations

import math
from typing import Any

import pytest
from attrs import define

from loops_async import PollPolicy
from loops_async._wait.interfaces import CHANGES, Attention
from loops_async._wait.schedule import CROWD_SIZE, REQUIRED_POLL_MARGIN_S, PolledSampler, Schedule

STEADY = PollPolicy(initial=2, factor=1.5, maximum=15, jitter=0, multiples={})


@define(eq=False)
class FakeWait:
    """A subscriber that only asks for polls."""

    policy: PollPolicy = STEADY
    subscribed_at: float = 0.0
    deadline: float = math.inf
    required_at: float = math.inf

    def next_required_poll(self) -> float:
        return self.required_at

    def on_status(self, *_: Any) -> Attention:
        return CHANGES

    def on_error(self, *_: Any) -> bool:
        return False

    def record_error(self, error: Exception) -> None: ...

    def on_deadline(self) -> None: ...

    def on_poller_stopped(self, error: Exception) -> None: ...


def due_at(schedule: Schedule, now: float) -> list[str]:
    return [entry.sampler_id for entry in schedule.tick(now)[1]]


def polled_by_get(schedule: Schedule, entry: PolledSampler, now: float, status: str, chance: float = 0.5) -> float:
    """Handle the answer of a GET that took no time; return when the next one is due."""
    if status != entry.group.status:
        schedule.set_status(entry, status, now)
    return schedule.reschedule(entry, now, now, chance)


def test_the_first_poll_is_at_once_and_then_gathered() -> None:
    schedule = Schedule()
    schedule.add("a", FakeWait(), 10.0)
    assert due_at(schedule, 10.0) == ["a"]
    schedule.samplers["a"].in_flight = True
    # Half of `initial` after the last tick, but a second at most.
    assert schedule.add("b", FakeWait(), 10.2).due == 11.0
    assert schedule.add("c", FakeWait(PollPolicy(initial=0.5)), 10.2).due == pytest.approx(10.25)
    assert schedule.add("d", FakeWait(), 11.5).due == 11.5


def test_pauses_grow_while_the_status_stays_the_same_and_begin_again_when_it_changes() -> None:
    schedule = Schedule()
    entry = schedule.add("a", FakeWait(), 0.0)
    now, pauses = 0.0, []
    for _ in range(7):
        following = polled_by_get(schedule, entry, now, "BUILDING")
        pauses.append(following - now)
        now = following
    assert pauses == pytest.approx([2, 3, 4.5, 6.75, 10.125, 15, 15])
    assert polled_by_get(schedule, entry, now, "DEPLOYING") - now == 2


def test_in_a_crowd_no_pause_is_shorter_than_initial() -> None:
    policy = PollPolicy(initial=2, jitter=0, multiples={"LOADING_MODEL": 0.1})
    for others, pause in ((0, 0.2), (5, 1.0), (CROWD_SIZE, 2.0), (3 * CROWD_SIZE, 2.0)):
        schedule = Schedule()
        entry = schedule.add("a", FakeWait(policy), 0.0)
        for number in range(others):
            schedule.add(f"other {number}", FakeWait(policy), 0.0)
        assert polled_by_get(schedule, entry, 0.0, "LOADING_MODEL") == pytest.approx(pause)


def test_jitter_varies_the_whole_pause() -> None:
    schedule = Schedule()
    entry = schedule.add("a", FakeWait(PollPolicy(initial=2, jitter=0.1, multiples={})), 0.0)
    assert polled_by_get(schedule, entry, 0.0, "BUILDING", chance=0.0) == pytest.approx(1.8)
    assert polled_by_get(schedule, entry, 0.0, "BUILDING", chance=1.0) == pytest.approx(2.2)


def test_failed_polls_back_off() -> None:
    schedule = Schedule()
    entry = schedule.add("a", FakeWait(), 0.0)
    for failures, pause in ((1, 2), (2, 4), (3, 8), (4, 15), (10, 15)):
        entry.failures = failures
        assert schedule.reschedule(entry, 0.0, 0.0, 0.5) == pause


@pytest.mark.parametrize("required_at", [0.7, 1.9])
def test_the_end_of_a_grace_period_is_polled_for(required_at: float) -> None:
    schedule = Schedule()
    entry = schedule.add("a", FakeWait(required_at=required_at), 0.0)
    assert polled_by_get(schedule, entry, 0.0, "UNHEALTHY") == pytest.approx(required_at + REQUIRED_POLL_MARGIN_S)
    # Once it is past, the policy's pauses count again.
    assert polled_by_get(schedule, entry, 2.0, "UNHEALTHY") == pytest.approx(2 + 3)


def test_a_deadline_is_no_poll_that_is_due_but_a_final_one() -> None:
    schedule = Schedule()
    entry = schedule.add("a", FakeWait(deadline=1.0), 0.0)
    polled_by_get(schedule, entry, 0.0, "BUILDING")
    late, due, upcoming = schedule.tick(0.5)
    assert (late, due, upcoming) == ([], [], 1.0)
    assert schedule.tick(1.0)[:2] == ([entry], [])


def test_a_tick_takes_what_is_nearly_due_too() -> None:
    schedule = Schedule()
    for name, due in (("now", 10.0), ("a tenth of initial later", 10.2), ("later", 10.21)):
        schedule.add(name, FakeWait(), 0.0).due = due
    assert due_at(schedule, 10.0) == ["now", "a tenth of initial later"]


def test_the_example_at_the_top_of_the_module() -> None:
    schedule = Schedule()
    crowds: dict[str, list[PolledSampler]] = {
        crowd: [schedule.add(f"{crowd} {number}", FakeWait(), 0.0) for number in range(100)] for crowd in "AB"
    }

    def dues() -> tuple[float, float]:
        for crowd in crowds.values():
            assert len({entry.due for entry in crowd}) == 1
        return crowds["A"][0].due, crowds["B"][0].due

    def listed(now: float, status_of_b: str) -> tuple[float, float]:
        schedule.align_groups(now, now, 0.5)
        for crowd, status in (("A", "BUILDING"), ("B", status_of_b)):
            for entry in crowds[crowd]:
                if status != entry.group.status:
                    schedule.set_status(entry, status, now)
                    schedule.align_to_group(entry, now, now, 0.5)
                else:
                    entry.due = entry.group.due
        return dues()

    assert listed(0.0, "BUILDING") == (2, 2)
    assert listed(2.0, "DEPLOYING") == (5, 4)
    assert listed(4.0, "DEPLOYING") == (8, 7)
    assert listed(7.0, "DEPLOYING") == (12.5, 11.5)


def test_what_a_list_lacks_is_polled_by_get_for_longer_and_longer() -> None:
    schedule = Schedule()
    entry = schedule.add("a", FakeWait(), 0.0)
    polled_by_get(schedule, entry, 0.0, "BUILDING")
    for now, until in ((1.0, 5.0), (10.0, 20.0), (100.0, 160.0)):
        schedule.not_listed(entry, now)
        assert entry.unlisted_until == until
