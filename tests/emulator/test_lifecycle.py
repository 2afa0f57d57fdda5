import math

import pytest

from loops_async.emulator import DEFAULT_LIFECYCLE, Stage
from loops_async.emulator._lifecycle import Lifecycles, faster, lifecycle


def test_the_default_lifecycle_is_valid_and_ends_ready() -> None:
    assert lifecycle(DEFAULT_LIFECYCLE) == DEFAULT_LIFECYCLE
    assert DEFAULT_LIFECYCLE[-1] == Stage("ACTIVE", None)


def test_pairs_and_stages_mean_the_same() -> None:
    assert lifecycle([("BUILDING", 1.5), Stage("ACTIVE")]) == (Stage("BUILDING", 1.5), Stage("ACTIVE", None))


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_a_duration_is_positive_and_finite(seconds: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Stage("BUILDING", seconds)


def test_a_stage_has_a_name() -> None:
    with pytest.raises(ValueError, match="name of a status"):
        Stage("", 1.0)


def test_a_lifecycle_has_a_stage() -> None:
    with pytest.raises(ValueError, match="at least one"):
        lifecycle([])


def test_only_the_last_stage_and_scaled_to_zero_may_last_for_ever() -> None:
    assert len(lifecycle([("SCALED_TO_ZERO", None), ("ACTIVE", None)])) == 2
    with pytest.raises(ValueError, match="BUILDING never ends"):
        lifecycle([("BUILDING", None), ("ACTIVE", None)])


def test_speed_divides_durations_and_leaves_endless_ones() -> None:
    assert faster([Stage("BUILDING", 3.0), Stage("ACTIVE")], 10) == (Stage("BUILDING", 0.3), Stage("ACTIVE"))


def test_each_model_has_its_lifecycle_and_the_star_is_for_the_others() -> None:
    lifecycles = Lifecycles.of({"a": [("ACTIVE", None)], "*": [("FAILED", None)]}, speed=2)
    assert lifecycles.of_model("a") == (Stage("ACTIVE"),)
    assert lifecycles.of_model("b") == (Stage("FAILED"),)
    assert lifecycles.deactivation_seconds == 1.0


def test_without_a_star_the_others_follow_the_default() -> None:
    assert Lifecycles.of({"a": [("ACTIVE", None)]}).of_model("b") == DEFAULT_LIFECYCLE


@pytest.mark.parametrize("speed", [0, -2.0, math.nan, math.inf])
def test_speed_is_positive_and_finite(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        Lifecycles.of(speed=speed)


def test_a_bad_lifecycle_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Lifecycles.of({"a": []})
