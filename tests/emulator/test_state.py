from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from loops_async.emulator._documents import sampler as document
from loops_async.emulator._documents import sampler_text
from loops_async.emulator._lifecycle import FREE_STATUSES, Lifecycles, Stage, lifecycle
from loops_async.emulator._progress import TRANSITIONS, Event, Phase, Progress
from loops_async.emulator._records import Sampler
from loops_async.emulator._refused import Refused
from loops_async.emulator._shapes import CreateSampler
from loops_async.emulator._state import ControlPlane
from loops_async.models import TEARDOWN_DONE, TEARDOWN_IN_PROGRESS

WALL = datetime(2026, 5, 1, 12, tzinfo=UTC)

ZERO_FIRST = [("BUILDING", 1.0), ("SCALED_TO_ZERO", None), ("WAKING_UP", 2.0), ("ACTIVE", None)]


def request(session_id: str, base_model: str | None = "some/model", run_id: str | None = None) -> CreateSampler:
    return CreateSampler(session_id, base_model, run_id, None, None, None, None, None)


def plane_of(stages: list[tuple[str, float | None]]) -> ControlPlane:
    return ControlPlane(Lifecycles.of({"*": stages}))


def create(plane: ControlPlane, now: float = 0.0, **options: str | None) -> Sampler:
    return plane.create_sampler(request(plane.create_session(), **options), now, WALL)


def status_at(plane: ControlPlane, sampler: Sampler, now: float) -> str:
    return plane.view(sampler, now).status


def test_time_alone_moves_a_sampler_along_its_lifecycle() -> None:
    plane = ControlPlane()
    sampler = create(plane, now=100.0)
    seen = [status_at(plane, sampler, 100.0 + at) for at in (0, 1.9, 2, 9.9, 10, 29.9, 30, 1e6)]
    assert seen == [
        *("BUILDING", "BUILDING", "DEPLOYING", "DEPLOYING"),
        *("LOADING_MODEL", "LOADING_MODEL", "ACTIVE", "ACTIVE"),
    ]


def test_a_late_look_skips_the_stages_that_are_over() -> None:
    plane = ControlPlane()
    assert status_at(plane, create(plane), 31.0) == "ACTIVE"


def test_a_wake_ends_scaled_to_zero_at_once_and_the_next_stage_begins_then() -> None:
    plane = plane_of(ZERO_FIRST)
    sampler = create(plane)
    assert status_at(plane, sampler, 500.0) == "SCALED_TO_ZERO"
    plane.wake(sampler.model_id, sampler.deployment_id, 500.0)
    assert status_at(plane, sampler, 501.9) == "WAKING_UP"
    assert status_at(plane, sampler, 502.0) == "ACTIVE"


def test_a_wake_ends_a_timed_scaled_to_zero_before_its_time() -> None:
    plane = plane_of([("SCALED_TO_ZERO", 60.0), ("ACTIVE", None)])
    sampler = create(plane)
    plane.wake(sampler.model_id, sampler.deployment_id, 1.0)
    assert status_at(plane, sampler, 1.0) == "ACTIVE"


@pytest.mark.parametrize("stages", [[("BUILDING", 9.0), ("ACTIVE", None)], [("SCALED_TO_ZERO", None)]])
def test_a_wake_with_nowhere_to_go_changes_nothing(stages: list[tuple[str, float | None]]) -> None:
    plane = plane_of(stages)
    sampler = create(plane)
    plane.wake(sampler.model_id, sampler.deployment_id, 1.0)
    assert status_at(plane, sampler, 1.0) == stages[0][0]


def test_deactivation_takes_its_time_and_stops_the_bill_at_once() -> None:
    plane = ControlPlane()
    sampler = create(plane)
    assert plane.view(sampler, 5.0).billed
    plane.deactivate(sampler.id, 5.0)
    assert (plane.view(sampler, 6.9).status, plane.view(sampler, 6.9).billed) == ("DEACTIVATING", False)
    assert status_at(plane, sampler, 7.0) == "INACTIVE"


def test_a_second_deactivation_does_not_begin_anew() -> None:
    plane = ControlPlane()
    sampler = create(plane)
    plane.deactivate(sampler.id, 5.0)
    plane.deactivate(sampler.id, 6.9)
    plane.deactivate(sampler.id, 7.0)
    assert status_at(plane, sampler, 7.0) == "INACTIVE"


def test_a_paired_sampler_is_not_deactivated_and_the_answer_names_its_run() -> None:
    plane = ControlPlane()
    sampler = create(plane, base_model=None, run_id="k4q95w5")
    assert sampler.base_model == "Qwen/Qwen3-8B"
    with pytest.raises(Refused, match="k4q95w5") as caught:
        plane.deactivate(sampler.id, 1.0)
    assert caught.value.status == 409
    assert plane.view(sampler, 1.0).billed


def test_a_run_has_one_live_sampler() -> None:
    plane = ControlPlane()
    first = create(plane, base_model=None, run_id="k4q95w5")
    assert create(plane, base_model="Qwen/Qwen3-8B", run_id="k4q95w5") is first
    plane.force(first.id, "FAILED", 1.0)
    assert create(plane, now=1.0, base_model=None, run_id="k4q95w5") is not first


def test_an_added_run_takes_samplers_of_its_base_model() -> None:
    plane = ControlPlane()
    assert plane.add_run("some/model", WALL, "mine") == "mine"
    assert create(plane, run_id="mine").base_model == "some/model"
    assert create(plane, run_id=plane.add_run("some/model", WALL)).run_id != "mine"
    for taken in ("mine", "k4q95w5"):
        with pytest.raises(ValueError, match="exists already"):
            plane.add_run("some/model", WALL, taken)


def test_a_forced_status_holds_against_time_and_wakes() -> None:
    plane = ControlPlane()
    sampler = create(plane)
    plane.force(sampler.id, "SCALED_TO_ZERO", 1.0)
    plane.wake(sampler.model_id, sampler.deployment_id, 2.0)
    assert status_at(plane, sampler, 1e6) == "SCALED_TO_ZERO"
    plane.force(sampler.id, "BRAND_NEW", 1e6)
    assert status_at(plane, sampler, 1e6) == "BRAND_NEW"


def test_a_forced_status_gives_way_to_a_deactivation() -> None:
    plane = ControlPlane()
    sampler = create(plane)
    plane.force(sampler.id, "UNHEALTHY", 1.0)
    plane.deactivate(sampler.id, 2.0)
    assert status_at(plane, sampler, 2.0) == "DEACTIVATING"
    assert status_at(plane, sampler, 4.0) == "INACTIVE"


def test_a_forced_deactivating_is_a_shutdown_that_hangs() -> None:
    plane = ControlPlane()
    sampler = create(plane)
    plane.force(sampler.id, "DEACTIVATING", 1.0)
    plane.deactivate(sampler.id, 2.0)
    assert status_at(plane, sampler, 1e6) == "DEACTIVATING"


def test_the_emulator_and_the_client_agree_on_what_is_billed() -> None:
    assert FREE_STATUSES == TEARDOWN_DONE | TEARDOWN_IN_PROGRESS


@pytest.mark.parametrize("status", sorted(FREE_STATUSES))
def test_what_is_gone_or_going_is_not_billed(status: str) -> None:
    plane = ControlPlane()
    sampler = create(plane)
    plane.force(sampler.id, status, 0.0)
    assert not plane.view(sampler, 0.0).billed


def test_lists_are_newest_first_and_keep_the_dead() -> None:
    plane = ControlPlane()
    first, second = create(plane), create(plane)
    plane.deactivate(first.id, 1.0)
    assert [(each.id, each.progress.status) for each in plane.samplers(9.0)] == [
        (second.id, "DEPLOYING"),
        (first.id, "INACTIVE"),
    ]
    assert [view.id for view in plane.views(9.0)] == [first.id, second.id]


def test_a_team_sees_its_own_samplers_and_the_organisation_all() -> None:
    plane = ControlPlane()
    own = create(plane)
    session_id = plane.create_session("t1")
    of_team = plane.create_sampler(request(session_id), 0.0, WALL, "t1")
    assert list(plane.samplers(0.0)) == [own]
    assert list(plane.samplers(0.0, team_id="t1")) == [of_team]
    assert list(plane.samplers(0.0, team_id="t2")) == []
    assert list(plane.samplers(0.0, everyone=True)) == [of_team, own]


def test_unknown_ids_are_not_found() -> None:
    plane = ControlPlane()
    for look in (
        lambda: plane.session("no"),
        lambda: plane.sampler("no", 0.0),
        lambda: plane.deactivate("no", 0.0),
        lambda: plane.force("no", "ACTIVE", 0.0),
        lambda: plane.wake("no", "no", 0.0),
        lambda: plane.checkpoint("no"),
        lambda: plane.create_sampler(request("no"), 0.0, WALL),
    ):
        with pytest.raises(Refused) as caught:
            look()
        assert caught.value.status == 404


def test_a_released_deployment_is_not_found() -> None:
    plane = ControlPlane()
    sampler = create(plane)
    plane.deactivate(sampler.id, 0.0)
    plane.wake(sampler.model_id, sampler.deployment_id, 1.0)
    with pytest.raises(Refused):
        plane.wake(sampler.model_id, sampler.deployment_id, 2.0)


def test_a_seed_repeats_the_ids() -> None:
    ids = [create(ControlPlane(seed=seed)).id for seed in (7, 7, 8)]
    assert ids[0] == ids[1] != ids[2]


def test_ids_do_not_repeat() -> None:
    plane = ControlPlane()
    session_id = plane.create_session()
    made = {plane.create_sampler(request(session_id), 0.0, WALL).id for _ in range(2000)}
    assert len(made) == 2000


def test_creation_time_is_utc_whatever_zone_it_was_given_in() -> None:
    plane = ControlPlane()
    wall = datetime(2026, 5, 1, 14, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    sampler = plane.create_sampler(request(plane.create_session()), 0.0, wall)
    assert document(sampler, "http://x", None).created_at == "2026-05-01T12:00:00.000005Z"


def test_the_kept_text_follows_the_status() -> None:
    plane = ControlPlane()
    sampler = create(plane)
    assert '"BUILDING"' in sampler_text(sampler, "http://x", None)
    plane.force(sampler.id, "UNHEALTHY", 1.0)
    assert '"UNHEALTHY"' in sampler_text(sampler, "http://x", None)


PATH = "bt://loops:k4q95w5/sampler_weights/step-100"


def test_checkpoints_are_found_by_exactly_one_filter() -> None:
    plane = ControlPlane()
    (found,) = plane.checkpoints(checkpoint_path=PATH)
    assert (found.name, found.target, found.path) == ("step-100", "sampler", PATH)
    assert plane.checkpoints(checkpoint_path=PATH + "/") == [found]
    assert len(plane.checkpoints(run_id="k4q95w5")) == 3
    assert len(plane.checkpoints(base_model="Qwen/Qwen3-8B")) == 3
    assert plane.checkpoints(run_id="other") == []
    assert plane.checkpoints(checkpoint_path=PATH + "00") == []
    for filters in (
        {},
        {"run_id": "k4q95w5", "base_model": "Qwen/Qwen3-8B"},
        {"checkpoint_path": "step-100"},
    ):
        with pytest.raises(Refused) as caught:
            plane.checkpoints(**filters)
        assert caught.value.status == 400


@pytest.mark.parametrize("run_id", [None, "k4q95w5"])
def test_a_sampler_checkpoint_validates_for_its_run(run_id: str | None) -> None:
    ControlPlane().validate_checkpoint(PATH, run_id)


@pytest.mark.parametrize(
    ("path", "run_id"),
    [
        ("nonsense", None),
        (PATH + "9", None),
        ("bt://loops:k4q95w5/weights/step-100", None),
        (PATH, "other"),
    ],
)
def test_what_a_sampler_cannot_load_does_not_validate(path: str, run_id: str | None) -> None:
    with pytest.raises(Refused) as caught:
        ControlPlane().validate_checkpoint(path, run_id)
    assert caught.value.status == 400


# Whole seconds are exact in a float, so that the two machines below cannot differ by rounding.
SECONDS = st.integers(1, 20).map(float)
TIMED = st.builds(Stage, st.sampled_from(["BUILDING", "DEPLOYING", "SCALED_TO_ZERO", "UNHEALTHY", "FAILED"]), SECONDS)
LIFECYCLES = st.builds(
    lambda stages, last: lifecycle([*stages, last]),
    st.lists(st.one_of(TIMED, st.just(Stage("SCALED_TO_ZERO"))), max_size=5),
    st.builds(Stage, st.sampled_from(["ACTIVE", "FAILED", "SCALED_TO_ZERO"]), st.none() | SECONDS),
)


def reachable(start: Phase, *acts: Event) -> set[Phase]:
    """Phases that the table allows after any passing of time and then at most the one act."""
    phases = {start}
    for events in ((Event.STAGE_OVER, Event.DEACTIVATION_OVER), acts):
        phases |= {TRANSITIONS[phase, event] for phase in phases for event in events if (phase, event) in TRANSITIONS}
    return phases


class ProgressMachine(RuleBasedStateMachine):
    """Drive one sampler that is looked at all the time beside a twin that is only acted on."""

    @initialize(stages=LIFECYCLES, release=SECONDS)
    def begin(self, stages: tuple[Stage, ...], release: float) -> None:
        self.now = 0.0
        self.watched = self.twin = Progress(stages, release, since=0.0)

    def moved(self, after: Progress, *acts: Event) -> None:
        assert after.phase in reachable(self.watched.phase, *acts)
        assert after.index >= self.watched.index
        if after.phase is self.watched.phase is Phase.HELD and Event.FORCE not in acts:
            assert after == self.watched
        self.watched = after

    @rule(seconds=st.integers(0, 30))
    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.moved(self.watched.advanced(self.now))

    @rule()
    def wake(self) -> None:
        before = self.watched
        self.moved(before.woken(self.now), Event.WAKE)
        self.twin = self.twin.woken(self.now)
        if self.watched != before:
            assert before.status == "SCALED_TO_ZERO"
            assert (self.watched.index, self.watched.since) == (before.index + 1, self.now)

    @rule()
    def deactivate(self) -> None:
        self.moved(self.watched.deactivated(self.now), Event.DEACTIVATE)
        self.twin = self.twin.deactivated(self.now)
        assert self.watched.status in {"DEACTIVATING", "INACTIVE"}

    @rule(status=st.sampled_from(["ACTIVE", "SCALED_TO_ZERO", "DEACTIVATING", "INACTIVE", "NEW"]))
    def force(self, status: str) -> None:
        self.moved(self.watched.forced(status, self.now), Event.FORCE)
        self.twin = self.twin.forced(status, self.now)
        assert self.watched.status == status

    @invariant()
    def looking_changes_nothing(self) -> None:
        assert self.twin.advanced(self.now) == self.watched

    @invariant()
    def the_bill_follows_the_status(self) -> None:
        assert self.watched.billed == (self.watched.status not in FREE_STATUSES)


TestProgress = ProgressMachine.TestCase
TestProgress.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_every_event_that_the_table_omits_leaves_the_sampler_as_it_is() -> None:
    start = Progress((Stage("BUILDING", 1.0), Stage("ACTIVE")), 1.0, since=0.0)
    of_phase = {
        Phase.FOLLOWING: start,
        Phase.FAILED: Progress((Stage("BUILDING", 1.0, failure=1.0),), 1.0, since=0.0).advanced(1.0),
        Phase.HELD: start.forced("SCALED_TO_ZERO", 0.0),
        Phase.DEACTIVATING: start.deactivated(0.0),
        Phase.INACTIVE: start.deactivated(0.0).advanced(1.0),
    }
    assert {phase: progress.phase for phase, progress in of_phase.items()} == {phase: phase for phase in Phase}
    assert of_phase[Phase.HELD].woken(5.0) == of_phase[Phase.HELD]
    assert of_phase[Phase.INACTIVE].woken(5.0) == of_phase[Phase.INACTIVE]
    assert of_phase[Phase.INACTIVE].deactivated(5.0) == of_phase[Phase.INACTIVE]
    assert of_phase[Phase.INACTIVE].advanced(1e9) == of_phase[Phase.INACTIVE]
