"""What lifecycles can do beyond one stage after the other; pure, without a loop."""

import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from loops_async.emulator import COURSES, Stage, parse_lifecycles
from loops_async.emulator._lifecycle import FAILS_AS, Lifecycles, faster, lifecycle
from loops_async.emulator._progress import Progress
from loops_async.emulator._records import Sampler
from loops_async.emulator._shapes import CreateSampler
from loops_async.emulator._state import ControlPlane

WALL = datetime(2026, 5, 1, 12, tzinfo=UTC)
API_STATUSES = frozenset(FAILS_AS.values()) | {
    *("BUILDING", "DEPLOYING", "LOADING_MODEL", "ACTIVE", "UPDATING", "SCALED_TO_ZERO", "WAKING_UP"),
    *("UNHEALTHY", "BUILD_STOPPED", "DEACTIVATING", "INACTIVE", "FAILED"),
}


def create(
    plane: ControlPlane, now: float = 0.0, availability: str | None = None, num_replicas: int | None = None
) -> Sampler:
    session_id = plane.create_session()
    request = CreateSampler(session_id, "some/model", None, None, None, num_replicas, availability, None)
    return plane.create_sampler(request, now, WALL)


def plane_of(course: Any, seed: int = 0) -> ControlPlane:
    return ControlPlane(Lifecycles.of({"*": course}), seed=seed)


def history(plane: ControlPlane, sampler: Sampler, seconds: int) -> list[str]:
    """Look every half second; give the statuses without repetitions."""
    seen: list[str] = []
    for half in range(2 * seconds):
        status = plane.view(sampler, half / 2).status
        if seen[-1:] != [status]:
            seen.append(status)
    return seen


@pytest.mark.parametrize("name", COURSES)
def test_courses_are_valid_and_of_the_statuses_that_the_api_has(name: str) -> None:
    course = COURSES[name]
    assert lifecycle(course) == course
    assert {stage.status for stage in course} <= API_STATUSES
    assert "ACTIVE" in {stage.status for stage in course}


def test_scaled_to_zero_comes_before_the_first_active_and_waits_for_a_wake() -> None:
    plane = plane_of(COURSES["zero-first"])
    sampler = create(plane)
    assert history(plane, sampler, 100) == ["BUILDING", "DEPLOYING", "SCALED_TO_ZERO"]
    plane.wake(sampler.model_id, sampler.deployment_id, 100.0)
    assert [plane.view(sampler, at).status for at in (100.0, 120.0, 130.0)] == ["WAKING_UP", "LOADING_MODEL", "ACTIVE"]


def test_an_idle_sampler_scales_down_and_a_request_wakes_it_up_again_and_again() -> None:
    plane = plane_of(COURSES["idle"])
    sampler, now = create(plane), 0.0
    for start in (30.0, 25.0, 25.0):
        now += start
        assert plane.view(sampler, now).status == "ACTIVE"
        assert plane.view(sampler, now + 899.0).status == "ACTIVE"
        now += 900.0
        assert plane.view(sampler, now).status == "SCALED_TO_ZERO"
        plane.use(sampler, now)
        assert plane.view(sampler, now).status == "WAKING_UP"


def test_requests_put_the_scale_down_off() -> None:
    plane = plane_of([Stage("ACTIVE", idle=10.0), Stage("SCALED_TO_ZERO")])
    sampler = create(plane)
    for now in (9.0, 18.0, 27.0):
        plane.use(sampler, now)
    assert plane.view(sampler, 36.0).status == "ACTIVE"
    assert plane.view(sampler, 37.0).status == "SCALED_TO_ZERO"


def test_a_fixed_number_of_replicas_never_scales_down() -> None:
    plane = plane_of([Stage("ACTIVE", idle=10.0), Stage("SCALED_TO_ZERO")])
    assert plane.view(create(plane, num_replicas=1), 1e6).status == "ACTIVE"


def test_only_spot_samplers_are_preempted_and_they_begin_anew() -> None:
    plane = plane_of(COURSES["spot"])
    spot, dedicated = create(plane, availability="spot"), create(plane, availability="dedicated")
    assert history(plane, dedicated, 5000) == ["BUILDING", "DEPLOYING", "LOADING_MODEL", "ACTIVE"]
    seen = history(plane, spot, 5000)
    circle = ["DEPLOYING", "LOADING_MODEL", "ACTIVE"]
    assert seen[0] == "BUILDING"
    assert len(seen) > 7
    assert seen[1:] == (circle * len(seen))[: len(seen) - 1]


def test_preemption_comes_after_its_mean_on_average() -> None:
    plane = plane_of([Stage("ACTIVE", preemption=100.0, preempted="ACTIVE")], seed=1)
    sampler = create(plane, availability="spot")
    plane.view(sampler, 100_000.0)
    assert 900 < sampler.progress.visits < 1100


@pytest.mark.parametrize("status", ["BUILDING", "DEPLOYING", "LOADING_MODEL"])
def test_each_stage_can_fail_with_its_probability(status: str) -> None:
    course = [Stage(each, 1.0, failure=0.3 if each == status else 0.0) for each in ("BUILDING", "DEPLOYING")]
    course += [Stage("LOADING_MODEL", 1.0, failure=0.3 if status == "LOADING_MODEL" else 0.0), Stage("ACTIVE")]
    plane = plane_of(course)
    samplers = [create(plane) for _ in range(1000)]
    ends = Counter(plane.view(sampler, 10.0).status for sampler in samplers)
    failed = FAILS_AS.get(status, "FAILED")
    assert set(ends) == {"ACTIVE", failed}
    assert 250 < ends[failed] < 350
    assert not any(plane.view(sampler, 1e6).billed for sampler in samplers if sampler.progress.status == failed)


def test_a_seed_repeats_every_failure_whoever_looks_when() -> None:
    def ends(seed: int, looks: int) -> list[str]:
        plane = plane_of(COURSES["flaky"], seed)
        samplers = [create(plane) for _ in range(100)]
        for look in range(looks):
            for sampler in samplers:
                plane.view(sampler, look * 1000.0 / looks)
        return [plane.view(sampler, 1000.0).status for sampler in samplers]

    assert ends(3, 0) == ends(3, 1) == ends(3, 77) != ends(4, 0)


def test_of_what_could_end_a_stage_the_first_does() -> None:
    plane = plane_of([Stage("ACTIVE", 9.0, idle=5.0), Stage("SCALED_TO_ZERO")])
    idle, busy = create(plane), create(plane)
    assert [plane.view(idle, now).status for now in (4.9, 5.0)] == ["ACTIVE", "SCALED_TO_ZERO"]
    plane.use(busy, 4.5)
    assert [plane.view(busy, now).status for now in (8.9, 9.0)] == ["ACTIVE", "SCALED_TO_ZERO"]


def test_a_failure_that_is_a_stage_can_be_recovered_from() -> None:
    course = [Stage("ACTIVE", 5.0, failure=1.0, fails_as="UNHEALTHY"), Stage("UNHEALTHY", 2.0, then="ACTIVE")]
    plane = plane_of(course)
    assert history(plane, create(plane), 13) == ["ACTIVE", "UNHEALTHY"] * 2


def test_what_failed_for_good_can_be_deactivated_and_forced() -> None:
    plane = plane_of([Stage("BUILDING", 1.0, failure=1.0), Stage("ACTIVE")])
    first, second = create(plane), create(plane)
    assert plane.view(first, 1.0).status == "BUILD_FAILED"
    plane.wake(first.model_id, first.deployment_id, 1.0)
    assert plane.view(first, 1e6).status == "BUILD_FAILED"
    plane.deactivate(first.id, 1e6)
    assert plane.view(first, 1e6).status == "DEACTIVATING"
    plane.force(second.id, "ACTIVE", 1e6)
    assert plane.view(second, 2e6).status == "ACTIVE"


@pytest.mark.parametrize(
    ("course", "complaint"),
    [
        ([Stage("BUILDING", 1.0, then="NOWHERE")], "NOWHERE"),
        ([Stage("ACTIVE", preemption=1.0)], "DEPLOYING"),
        ([Stage("BUILDING"), Stage("ACTIVE")], "never ends"),
    ],
)
def test_a_course_that_leads_nowhere_is_refused(course: list[Stage], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        lifecycle(course)


@pytest.mark.parametrize(
    "setting", [{"idle": 0.0}, {"preemption": math.inf}, {"failure": 1.5}, {"failure": math.nan}, {"failure": 0.5}]
)
def test_a_stage_with_a_setting_out_of_range_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="stage ACTIVE"):
        Stage("ACTIVE", **setting)


def test_a_circle_of_stages_ends_a_look_at_any_speed() -> None:
    circle = faster([Stage("ACTIVE", 1e-9), Stage("UNHEALTHY", 1e-9, then="ACTIVE")], 1e9)
    assert Progress(circle, 1.0, since=1e6).advanced(1e6 + 1).visits <= 1001


def test_lifecycles_can_be_written_as_json() -> None:
    text = (
        '{"m": [["BUILDING", 2], {"status": "ACTIVE", "idle": 9, "then": null}, ["SCALED_TO_ZERO", null]], "*": "spot"}'
    )
    assert parse_lifecycles(text) == {
        "m": (Stage("BUILDING", 2), Stage("ACTIVE", idle=9), Stage("SCALED_TO_ZERO")),
        "*": COURSES["spot"],
    }
    assert parse_lifecycles('[["ACTIVE", null]]') == {"*": (Stage("ACTIVE"),)}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "7", '"rapid"', "[]", "[7]", '[["ACTIVE"]]', '[{"seconds": 1}]', '[{"status": 7}]'),
        *('[{"status": "ACTIVE", "colour": 1}]', '[{"status": "ACTIVE", "seconds": "1"}]', '[["ACTIVE", true]]'),
        *(
            '[{"status": null}]',
            '[{"status": "ACTIVE", "failure": null}]',
            '{"m": {"status": "ACTIVE"}}',
            "[" * 100_000,
        ),
    ],
)
def test_what_is_no_lifecycle_in_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_lifecycles(text)


# What may follow a status by itself, read off a lifecycle without the code under test.
def allowed(course: tuple[Stage, ...], *, spot: bool, fixed: bool) -> set[tuple[str, str]]:
    names = [stage.status for stage in course]
    pairs = set()
    for index, stage in enumerate(course):
        following = stage.then or (names[index + 1] if index + 1 < len(names) else None)
        if following is not None and (stage.seconds is not None or (stage.idle is not None and not fixed)):
            pairs.add((stage.status, following))
        if stage.failure:
            pairs.add((stage.status, stage.fails_as or FAILS_AS.get(stage.status, "FAILED")))
        if stage.preemption and spot:
            pairs.add((stage.status, stage.preempted))
    return pairs | {("DEACTIVATING", "INACTIVE")}


class SamplerMachine(RuleBasedStateMachine):
    """Live with one sampler of any course, looking all the time, and compare with what the course allows."""

    @initialize(name=st.sampled_from(sorted(COURSES)), spot=st.booleans(), fixed=st.booleans(), seed=st.integers(0, 99))
    def begin(self, name: str, spot: bool, fixed: bool, seed: int) -> None:
        # Speed brings the idle scale-down and preemptions within reach.
        course = faster(COURSES[name], 20)
        self.plane = plane_of(course, seed)
        self.allowed = allowed(course, spot=spot, fixed=fixed)
        self.after_wake = {
            stage.then or course[index + 1].status
            for index, stage in enumerate(course)
            if stage.status == "SCALED_TO_ZERO"
        }
        self.now = 0.0
        self.sampler = create(self.plane, 0.0, "spot" if spot else "dedicated", 2 if fixed else None)
        self.status = self.plane.view(self.sampler, 0.0).status
        self.forced = False

    def look(self, *by_act: str) -> None:
        status = self.plane.view(self.sampler, self.now).status
        if status != self.status:
            assert status in by_act or (self.status, status) in self.allowed, (self.status, status)
            assert by_act or not self.forced or self.status == "DEACTIVATING"
        self.status = status

    @rule(steps=st.sampled_from([1, 20, 200, 1000]))
    def wait(self, steps: int) -> None:
        for _ in range(steps):
            # No stage is shorter, so that no transition is missed.
            self.now += 0.05
            self.look()

    @rule()
    def wake(self) -> None:
        woken = self.after_wake if self.status == "SCALED_TO_ZERO" and not self.forced else ()
        if self.status != "INACTIVE":
            self.plane.wake(self.sampler.model_id, self.sampler.deployment_id, self.now)
        self.look(*woken)

    @rule()
    def use(self) -> None:
        woken = self.after_wake if self.status == "SCALED_TO_ZERO" and not self.forced else ()
        self.plane.use(self.sampler, self.now)
        self.look(*woken)

    @rule()
    def deactivate(self) -> None:
        if self.status not in {"DEACTIVATING", "INACTIVE"}:
            self.forced = False
        self.plane.deactivate(self.sampler.id, self.now)
        self.look("DEACTIVATING")
        assert self.status in {"DEACTIVATING", "INACTIVE"}

    @rule(status=st.sampled_from(["ACTIVE", "SCALED_TO_ZERO", "UNHEALTHY", "NEW"]))
    def force(self, status: str) -> None:
        self.plane.force(self.sampler.id, status, self.now)
        self.forced = True
        self.look(status)
        assert self.status == status

    @rule(back=st.integers(0, 300))
    def look_back(self, back: int) -> None:
        moment = self.now - back * 0.05
        past = list(self.plane.samplers_at(moment))
        assert bool(past) == (moment >= 0)
        if back == 0:
            assert past[0][1] == self.status


TestSampler = SamplerMachine.TestCase
TestSampler.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
