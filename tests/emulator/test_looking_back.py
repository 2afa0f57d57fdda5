"""What a control plane looked like some time ago: what a lagging list shows. Pure, without a loop."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from loops_async.emulator import Stage
from loops_async.emulator._lifecycle import Lifecycles
from loops_async.emulator._records import Sampler
from loops_async.emulator._shapes import CreateSampler
from loops_async.emulator._state import ControlPlane

WALL = datetime(2026, 5, 1, 12, tzinfo=UTC)
COURSE = [
    Stage("BUILDING", 2.0),
    Stage("ACTIVE", 7.0, failure=0.5, fails_as="UNHEALTHY", then="ACTIVE", idle=3.0),
    Stage("UNHEALTHY", 1.0, then="SCALED_TO_ZERO"),
    Stage("SCALED_TO_ZERO"),
    Stage("WAKING_UP", 2.0, then="ACTIVE"),
]


def create(plane: ControlPlane, now: float) -> Sampler:
    request = CreateSampler(plane.create_session(), "m", None, None, None, None, None, None)
    return plane.create_sampler(request, now, WALL)


def test_what_is_younger_was_not_there() -> None:
    plane = ControlPlane()
    first, second = create(plane, 0.0), create(plane, 5.0)
    assert [(each.id, status) for each, status in plane.samplers_at(4.0)] == [(first.id, "DEPLOYING")]
    assert [(each.id, status) for each, status in plane.samplers_at(5.0)] == [
        (second.id, "BUILDING"),
        (first.id, "DEPLOYING"),
    ]


def test_what_was_done_since_does_not_show() -> None:
    plane = ControlPlane()
    sampler = create(plane, 0.0)
    plane.force(sampler.id, "UNHEALTHY", 10.0)
    plane.deactivate(sampler.id, 20.0)
    shown = [next(plane.samplers_at(moment))[1] for moment in (9.0, 10.0, 19.0, 20.0, 22.0)]
    assert shown == ["DEPLOYING", "UNHEALTHY", "UNHEALTHY", "DEACTIVATING", "INACTIVE"]


ACTS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["wake", "use", "deactivate", "force"])), max_size=12)


@settings(max_examples=150, deadline=None)
@given(ACTS, st.integers(0, 50))
def test_the_past_is_what_was_seen_then(acts: list[tuple[int, str]], seed: int) -> None:
    plane = ControlPlane(Lifecycles.of({"*": COURSE}), seed=seed)
    sampler = create(plane, 0.0)
    seen: dict[float, str] = {}

    def watch(until: int) -> None:
        for second in range(len(seen), until + 1):
            seen[second] = plane.view(sampler, second).status

    now = 0
    for pause, act in acts:
        watch(now + pause)
        now += pause
        # Between two whole seconds, so that what was seen at either is unambiguous.
        at = now + 0.5
        if act == "wake" and plane.view(sampler, at).status != "INACTIVE":
            plane.wake(sampler.model_id, sampler.deployment_id, at)
        elif act == "use":
            plane.use(sampler, at)
        elif act == "deactivate":
            plane.deactivate(sampler.id, at)
        elif act == "force":
            plane.force(sampler.id, "UPDATING", at)
        now += 1
    watch(now + 10)
    assert {moment: next(plane.samplers_at(moment))[1] for moment in seen} == seen


def test_a_request_since_does_not_show_and_one_before_does() -> None:
    plane = ControlPlane(Lifecycles.of({"*": [Stage("ACTIVE", idle=5.0), Stage("SCALED_TO_ZERO")]}))
    sampler = create(plane, 0.0)
    for now in (4.0, 8.0):
        plane.use(sampler, now)
    shown = [next(plane.samplers_at(moment))[1] for moment in (3.0, 7.0, 12.0, 13.0)]
    assert shown == ["ACTIVE", "ACTIVE", "ACTIVE", "SCALED_TO_ZERO"]


def test_thousands_of_requests_are_not_kept() -> None:
    plane = ControlPlane(Lifecycles.of({"*": [Stage("ACTIVE", idle=5.0), Stage("SCALED_TO_ZERO")]}))
    sampler = create(plane, 0.0)
    for second in range(5000):
        plane.use(sampler, float(second))
    assert len(sampler.timeline._acts) == 1
    assert plane.view(sampler, 5003.0).status == "ACTIVE"
