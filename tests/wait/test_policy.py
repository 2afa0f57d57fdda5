from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
import re
from typing import Any

import attrs
import pytest

from loops_async import DeploymentStatus, PollPolicy, wait_until_active


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
    policy = PollPolicy(ready={"ACTIVE", "SCALED_TO_ZERO"}, multiples={"BUILDING": 2, DeploymentStatus.ACTIVE: 3})
    assert policy.ready == {DeploymentStatus.ACTIVE, DeploymentStatus.SCALED_TO_ZERO}
    for again in (
        pickle.loads(pickle.dumps(policy)),  # noqa: S301
        copy.copy(policy),
        copy.deepcopy(policy),
        attrs.evolve(policy),
        PollPolicy(ready=["SCALED_TO_ZERO", "ACTIVE"], multiples={"ACTIVE": 3, "BUILDING": 2}),
    ):
        assert again == policy
        assert hash(again) == hash(policy)
        assert again.pause(1, "BUILDING") == policy.pause(1, "BUILDING")
    assert PollPolicy() != policy != attrs.evolve(policy, multiples={})
    assert len({PollPolicy(), policy, attrs.evolve(policy, multiples={}), PollPolicy(multiples={})}) == 4


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(PollPolicy)])
def test_nothing_of_a_policy_can_be_changed(name: str) -> None:
    policy = PollPolicy()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(policy, name, getattr(policy, name))
    value: Any = getattr(policy, name)
    hash(value)
    with pytest.raises((TypeError, AttributeError)):
        value["BUILDING"] = 9.0
    with pytest.raises(AttributeError):
        value.update({"BUILDING": 9.0})
    assert getattr(policy, name) == getattr(PollPolicy(), name)


def test_the_mapping_that_a_policy_was_made_of_stays_the_callers() -> None:
    multiples = {"BUILDING": 2.0}
    policy = PollPolicy(initial=1, multiples=multiples)
    multiples["BUILDING"] = 100.0
    assert policy.multiples == {"BUILDING": 2.0}
    assert dict(policy.multiples) == {"BUILDING": 2.0}
    assert policy.multiples.get("DEPLOYING") is None
    assert len(policy.multiples) == 1
    with pytest.raises(KeyError):
        policy.multiples["DEPLOYING"]


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        (PollPolicy(), "PollPolicy()"),
        (PollPolicy(initial=2.0, maximum=15), "PollPolicy()"),
        (PollPolicy(maximum=5, wake=False), "PollPolicy(maximum=5.0, wake=False)"),
        (PollPolicy(ready={"ACTIVE", "SCALED_TO_ZERO"}), "PollPolicy(ready={'ACTIVE', 'SCALED_TO_ZERO'})"),
        (PollPolicy(failed=()), "PollPolicy(failed=frozenset())"),
        (PollPolicy(multiples={DeploymentStatus.BUILDING: 2}), "PollPolicy(multiples={'BUILDING': 2.0})"),
    ],
)
def test_its_repr_shows_what_differs_from_the_defaults(policy: PollPolicy, shown: str) -> None:
    assert repr(policy) == shown
    assert eval(shown) == policy  # noqa: S307


def test_help_explains_every_field_and_signatures_stay_short() -> None:
    shown = pydoc.plain(pydoc.render_doc(PollPolicy))
    for each in attrs.fields(PollPolicy):
        assert re.search(rf"^ \|\s+{each.name}: [A-Z]", shown, re.MULTILINE), each.name
    assert "policy: 'PollPolicy' = PollPolicy()" in str(inspect.signature(wait_until_active))


def test_pauses_stay_within_bounds_after_any_number_of_failures() -> None:
    assert PollPolicy(factor=1e300, maximum=20).backoff(100_000) == 20
    assert PollPolicy(initial=1e-4, factor=1, maximum=1e300).backoff(100_000) == 1e300
