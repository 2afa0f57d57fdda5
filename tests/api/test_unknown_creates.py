"""Which samplers an unknown create may have made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from loops_async import Sampler, SamplerSpec, TransportError
from loops_async._api.known_samplers import FORGET_AFTER_S, KnownSamplers
from loops_async._api.unknown_creates import (
    CLOCK_TOLERANCE,
    UNKNOWN_CLOCK_TOLERANCE,
    Moment,
    ServiceClock,
    UnknownCreate,
    candidates_for_each,
    shows_too_few,
)

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def moment(seconds: float) -> Moment:
    return Moment(START + timedelta(seconds=seconds), seconds)


def unknown(began: float = 0.0, ended: float = 10.0, spec: SamplerSpec | None = None) -> UnknownCreate:
    return UnknownCreate(spec or SamplerSpec("m"), TransportError("cut"), moment(began), moment(ended))


def sampler(name: str = "a", *, model: str = "m", after: timedelta = timedelta(), status: str = "BUILDING") -> Sampler:
    return Sampler(name, "", model, START + after, status)


def clock_ahead_by(offset: timedelta) -> ServiceClock:
    return lambda monotonic: START + timedelta(seconds=monotonic) + offset


def no_clock(_: float) -> None:
    return None


def candidates(
    create: UnknownCreate, *listed: Sampler, clock: ServiceClock = no_clock, known: KnownSamplers | None = None
) -> list[str]:
    found = candidates_for_each([create], listed, known or KnownSamplers(lambda: 0.0), clock)
    return [each.id for each in found[create]]


@pytest.mark.parametrize(
    ("candidate", "may_be"),
    [
        (sampler(), True),
        (sampler(model="other"), False),
        (sampler(status="INACTIVE"), False),
        (sampler(status="DEACTIVATING"), False),
        (sampler(status="FAILED"), True),
    ],
)
def test_model_and_status_decide(candidate: Sampler, may_be: bool) -> None:
    assert bool(candidates(unknown(), candidate)) is may_be


@pytest.mark.parametrize("offset", [timedelta(), HOUR, -HOUR, timedelta(days=400)])
def test_the_times_are_compared_by_the_services_own_clock(offset: timedelta) -> None:
    create, clock = unknown(0, 10), clock_ahead_by(offset)
    early, late = sampler("early", after=offset - CLOCK_TOLERANCE), sampler("late", after=offset + CLOCK_TOLERANCE)
    too_early = sampler("too early", after=offset - CLOCK_TOLERANCE - SECOND)
    too_late = sampler("too late", after=offset + CLOCK_TOLERANCE + 11 * SECOND)
    assert candidates(create, early, late, too_early, too_late, clock=clock) == ["early", "late"]


def test_without_the_services_clock_five_minutes_are_allowed() -> None:
    near = sampler("near", after=-UNKNOWN_CLOCK_TOLERANCE)
    far = sampler("far", after=-UNKNOWN_CLOCK_TOLERANCE - SECOND)
    assert candidates(unknown(), near, far) == ["near"]


async def test_the_times_of_another_process_are_shifted_by_how_far_the_service_is_from_our_clock() -> None:
    now = datetime.now(UTC)
    create = UnknownCreate(SamplerSpec("m"), None, Moment(now - HOUR, None), Moment(now - HOUR + 10 * SECOND, None))
    there = Sampler("a", "", "m", now - HOUR + timedelta(days=2), "BUILDING")
    assert candidates(create, there, clock=lambda _: datetime.now(UTC) + timedelta(days=2)) == ["a"]
    assert candidates(create, there) == []


def test_a_sampler_that_was_seen_before_the_create_began_is_none() -> None:
    now = 0.0
    known = KnownSamplers(lambda: now)
    known.mark_seen("old")
    now = 5.0
    known.mark_seen("old", "new")
    assert candidates(unknown(began=3), sampler("old"), sampler("new"), known=known) == ["new"]


def test_a_sampler_whose_create_is_known_is_none() -> None:
    known = KnownSamplers(lambda: 0.0)
    known.mark_made("made")
    assert candidates(unknown(), sampler("made"), sampler("other"), known=known) == ["other"]


def test_ids_are_forgotten_after_an_hour_or_two() -> None:
    now = 0.0
    known = KnownSamplers(lambda: now)
    for hour in range(10):
        now = hour * FORGET_AFTER_S + 1
        known.mark_seen(*(f"{hour}-{index}" for index in range(100)))
        known.mark_made(f"{hour}-0")
    assert len(known._seen_at) <= 300
    assert len(known._made_at) <= 3
    assert known.is_fresh("9-0")


def test_the_error_has_the_cause_and_the_candidates() -> None:
    create = unknown()
    error = create.error([sampler()], KeyError())
    assert error.__cause__ is create.cause
    assert error.candidates == (sampler(),)
    assert isinstance(error.look_error, KeyError)


def test_a_list_shows_too_few_if_a_model_has_fewer_candidates_than_creates() -> None:
    creates = [unknown(), unknown(), unknown(spec=SamplerSpec("n"))]
    assert shows_too_few(creates, [sampler("a"), sampler("b")])
    assert shows_too_few(creates, [sampler("a"), sampler("b", model="n"), sampler("c", model="n")])
    assert not shows_too_few(creates, [sampler("a"), sampler("b"), sampler("c", model="n")])
