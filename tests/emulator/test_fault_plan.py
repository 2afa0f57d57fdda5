import math
from typing import Any

import pytest

from loops_async.emulator import Fault
from loops_async.emulator._faults import FaultPlan


def test_a_fault_is_met_as_often_as_it_says() -> None:
    plan = FaultPlan()
    plan.add(fault := Fault(times=2))
    assert [plan.draw("GET", "/x") for _ in range(3)] == [fault, fault, None]


def test_a_fault_without_a_count_stays() -> None:
    plan = FaultPlan()
    plan.add(fault := Fault(times=None))
    assert {plan.draw("GET", "/x") for _ in range(50)} == {fault}


def test_a_fault_is_for_its_method_and_route_alone() -> None:
    plan = FaultPlan()
    plan.add(fault := Fault(method="POST", route="/x"))
    assert plan.draw("GET", "/x") is None
    assert plan.draw("POST", "/y") is None
    assert plan.draw("POST", None) is None
    assert plan.draw("POST", "/x") is fault


def test_the_first_fault_that_matches_is_met_first() -> None:
    plan = FaultPlan()
    plan.add(first := Fault(status=500))
    plan.add(second := Fault(status=500))
    assert [plan.draw("GET", None) for _ in range(3)] == [first, second, None]


def test_faults_can_be_taken_back() -> None:
    plan = FaultPlan()
    for fault in (first := Fault(), second := Fault()):
        plan.add(fault)
    plan.remove(first)
    plan.remove(first)
    assert plan.draw("GET", None) is second
    plan.add(first)
    plan.clear()
    assert plan.draw("GET", None) is None


def test_chance_is_of_the_seed_and_near_its_rate() -> None:
    def met(seed: int) -> list[bool]:
        plan = FaultPlan(seed)
        plan.add(Fault(times=None, rate=0.25))
        return [plan.draw("GET", None) is not None for _ in range(2000)]

    assert met(1) == met(1) != met(2)
    assert 400 < sum(met(1)) < 600


def test_a_missed_chance_does_not_use_a_fault_up() -> None:
    plan = FaultPlan()
    plan.add(Fault(rate=0.0))
    plan.add(Fault(times=5, rate=0.5))
    assert sum(plan.draw("GET", None) is not None for _ in range(200)) == 5


@pytest.mark.parametrize(
    "settings",
    [
        {"times": 0},
        {"rate": -0.1},
        {"rate": 1.1},
        {"rate": math.nan},
        {"delay": -1.0},
        {"delay_after": math.inf},
        {"cut": "during"},
        {"partial": -1},
        {"status": 99},
        {"status_after": 600},
        {"cut": "after", "status": 500},
        {"partial": 3, "status_after": 500},
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Fault(**settings)
