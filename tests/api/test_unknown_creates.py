"""Which samplers a lost create may have made, and who may have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from loops_async import CreateOutcomeUnknown, Sampler, SamplerSpec, TransportError
from loops_async._api.unknown_creates import CLOCK_SKEW, Timestamps, UnknownCreate, by_model, matched, shared

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def moment(seconds: float) -> Timestamps:
    return Timestamps(START + timedelta(seconds=seconds), seconds)


def loss(began: float = 0.0, ended: float = 10.0, spec: SamplerSpec | None = None) -> UnknownCreate:
    unknown = CreateOutcomeUnknown(spec or SamplerSpec("m"))
    unknown.__cause__ = TransportError("cut")
    return UnknownCreate(unknown, moment(began), moment(ended))


def sampler(name: str = "a", *, model: str = "m", after: timedelta = timedelta(), status: str = "BUILDING") -> Sampler:
    return Sampler(name, "", model, START + after, status)


@pytest.mark.parametrize(
    ("candidate", "known_since", "may_be"),
    [
        (sampler(), None, True),
        (sampler(), 0.0, True),
        (sampler(), 99.0, True),
        (sampler(), -0.1, False),
        (sampler(model="other"), None, False),
        (sampler(status="INACTIVE"), None, False),
        (sampler(status="DEACTIVATING"), None, False),
        (sampler(status="FAILED"), None, True),
        (sampler(after=-CLOCK_SKEW), None, True),
        (sampler(after=-CLOCK_SKEW - MINUTE), None, False),
        (sampler(after=CLOCK_SKEW), None, True),
        (sampler(after=CLOCK_SKEW + MINUTE), None, False),
    ],
)
def test_what_a_create_may_have_made(candidate: Sampler, known_since: float | None, may_be: bool) -> None:
    assert loss().may_have_made(candidate, known_since) is may_be


def test_what_is_told_keeps_the_cause() -> None:
    lost = loss()
    told = lost.told([sampler()], KeyError())
    assert told.__cause__ is lost.unknown.__cause__
    assert told.candidates == (sampler(),)
    assert isinstance(told.look_error, KeyError)


def test_groups_are_in_the_order_of_the_creates() -> None:
    second, first, other = loss(2), loss(1), loss(0, spec=SamplerSpec("n"))
    assert by_model([second, other, first]) == {"n": [other], "m": [first, second]}


def test_each_candidate_goes_to_a_loss_of_its_own() -> None:
    losses = [loss(0), loss(1), loss(2)]
    given = matched(losses, [sampler("a"), sampler("b"), sampler("c")], {})
    assert given is not None
    assert set(given) == set(losses)
    assert {each.id for each in given.values()} == {"a", "b", "c"}


def test_losses_that_nothing_is_left_for_stay_lost() -> None:
    given = matched([loss(0), loss(1)], [sampler("a")], {})
    assert given is not None
    assert len(given) == 1


def test_more_candidates_than_losses_are_no_match() -> None:
    assert matched([loss()], [sampler("a"), sampler("b")], {}) is None


def test_losses_that_asked_for_different_things_are_no_match() -> None:
    assert matched([loss(), loss(spec=SamplerSpec("m", num_replicas=2))], [sampler("a"), sampler("b")], {}) is None


def test_what_was_known_before_a_create_is_an_earlier_ones() -> None:
    early, late = loss(0), loss(50)
    # In this order a careless match would give "new" to the early one, and have nobody left for "old".
    given = matched([early, late], [sampler("new"), sampler("old")], {"old": 20.0, "new": 60.0})
    assert given == {early: sampler("old"), late: sampler("new")}


def test_two_that_only_one_can_have_made_are_no_match() -> None:
    assert matched([loss(0), loss(50)], [sampler("a"), sampler("b")], {"a": 20.0, "b": 20.0}) is None


def test_no_candidates_match_nobody() -> None:
    assert matched([loss()], [], {}) == {}


def test_a_burst_shares_its_candidates() -> None:
    losses = [loss(0, 10), loss(1, 11)]
    candidates = (sampler("a"), sampler("b"))
    told = shared(losses, candidates, {"a": 30.0})
    assert told == dict.fromkeys(losses, candidates)
    assert told[losses[0]] is told[losses[1]]


def test_each_create_of_a_long_time_has_candidates_of_its_own() -> None:
    early, late = loss(0), loss(50, 400)
    old, new, last = sampler("old"), sampler("new"), sampler("last", after=CLOCK_SKEW + MINUTE)
    told = shared([early, late], (old, new, last), {"old": 20.0, "new": 60.0})
    assert told == {early: (old, new), late: (new, last)}
