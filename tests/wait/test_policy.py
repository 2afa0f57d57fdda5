from __future__ import annotations

import pickle
from typing import Any

import pytest

from loops_async import DeploymentStatus, PollPolicy


def test_pauses_grow_to_the_maximum() -> None:
    policy = PollPolicy(initial=1, factor=2, maximum=5, multiples={})
    elapsed, pauses = 0.0, []
    for _ in range(5):
        pauses.append(policy.pause(elapsed))
        elapsed += pauses[-1]
    assert pauses == pytest.approx([1, 2, 4, 5, 5])
    assert policy.pause(1e12) == 5
    assert PollPolicy(initial=1, factor=1, maximum=5).pause(100) == 1


def test_pauses_grow_alike_in_every_stage() -> None:
    policy = PollPolicy(initial=1, factor=2, maximum=4, multiples={"LOADING_MODEL": 0.1})
    elapsed, pauses = 0.0, []
    for _ in range(4):
        pauses.append(policy.pause(elapsed, "LOADING_MODEL"))
        elapsed += pauses[-1]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.4])


def test_failures_back_off_even_where_pauses_do_not_grow() -> None:
    policy = PollPolicy(initial=1, factor=1, maximum=5)
    assert [policy.backoff(failures) for failures in (1, 2, 3, 4)] == [1, 2, 4, 5]


def test_the_stage_sets_the_pace() -> None:
    policy = PollPolicy(initial=2, factor=1, maximum=15, multiples={"BUILDING": 2.5, "LOADING_MODEL": 0.5})
    assert policy.pause(0, DeploymentStatus.BUILDING) == 5
    assert policy.pause(0, "LOADING_MODEL") == 1
    assert policy.pause(0, "DEPLOYING") == 2
    assert policy.pause(0) == 2


def test_jitter_is_small_and_on_both_sides() -> None:
    policy = PollPolicy()
    assert [policy.jittered(10, chance) for chance in (0, 0.5, 1)] == [9, 10, 11]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"initial": 0}, ValueError),
        ({"initial": "2"}, TypeError),
        ({"initial": 10**400}, ValueError),
        ({"wake": "no"}, TypeError),
        ({"initial": 20}, ValueError),
        ({"factor": 0.9}, ValueError),
        ({"maximum": float("inf")}, ValueError),
        ({"jitter": 1}, ValueError),
        ({"jitter": -0.1}, ValueError),
        ({"multiples": {"ACTIVE": 0}}, ValueError),
        ({"multiples": [1]}, TypeError),
        ({"ready": "ACTIVE"}, TypeError),
        ({"ready": {5}}, TypeError),
        ({"ready": {"UNHEALTHY"}}, ValueError),
        ({"unhealthy_grace": -1}, ValueError),
        ({"missing_grace": float("nan")}, ValueError),
    ],
)
def test_a_policy_refuses_what_makes_no_sense(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        PollPolicy(**arguments)


def test_a_policy_is_a_value() -> None:
    policy = PollPolicy(ready={"ACTIVE", "SCALED_TO_ZERO"})
    assert policy.ready == {DeploymentStatus.ACTIVE, DeploymentStatus.SCALED_TO_ZERO}
    again = pickle.loads(pickle.dumps(policy))  # noqa: S301
    assert again == policy
    assert again.pause(1) > 0
    assert hash(again) == hash(policy)
