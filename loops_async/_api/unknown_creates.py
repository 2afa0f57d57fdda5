"""Creates whose response was lost, and the listed samplers that they may have made. No I/O.

A sampler carries neither a label nor the id of its session. A match can only compare its base model, its owner, the
time of its creation, and whether this client knew it before. That is never certain, so candidates are only reported.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import field, frozen

from ..errors import CreateOutcomeUnknown
from ..models import ONLY_BY_DEACTIVATION, Sampler, SamplerSpec
from .known_samplers import KnownSamplers, loop_time

CLOCK_TOLERANCE: Final = timedelta(minutes=2)
"""How far a sampler's creation time may be outside the time of its create, by the service's clock."""

UNKNOWN_CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""The same by the clock of this machine, used where the service does not send its own time."""

ServiceClock = Callable[[float], datetime | None]
"""Returns the time by the service's clock at a time of the event loop's; None while it is unknown."""


@frozen
class Moment:
    """A moment on two clocks of this machine."""

    utc: datetime = field(factory=lambda: datetime.now(UTC))
    monotonic: float | None = field(factory=loop_time)
    """Time of the event loop's clock; None for a moment of another process, whose clock means nothing here."""

    def by(self, clock: ServiceClock) -> tuple[datetime, timedelta]:
        """Return this moment by the service's *clock* or, while that is unknown, by ours; and its tolerance."""
        if self.monotonic is not None:
            there = clock(self.monotonic)
            return (self.utc, UNKNOWN_CLOCK_TOLERANCE) if there is None else (there, CLOCK_TOLERANCE)
        now = Moment()
        assert now.monotonic is not None  # noqa: S101 -- it is of this process
        there = clock(now.monotonic)
        if there is None:
            return self.utc, UNKNOWN_CLOCK_TOLERANCE
        # The other process ran on this machine, or on one whose clock is no worse.
        return self.utc + (there - now.utc), UNKNOWN_CLOCK_TOLERANCE


@frozen(eq=False)
class UnknownCreate:
    """A create that may or may not have made a sampler."""

    spec: SamplerSpec
    cause: BaseException | None
    """The failure of the request."""
    began: Moment
    """The moment before its POST."""
    ended: Moment
    """The latest moment at which the service may have processed it."""

    def error(self, candidates: Iterable[Sampler] = (), look_error: Exception | None = None) -> CreateOutcomeUnknown:
        """Return the error that the caller of the create gets."""
        error = CreateOutcomeUnknown(self.spec, tuple(candidates), look_error)
        error.__cause__ = self.cause
        return error

    def window(self, clock: ServiceClock) -> tuple[datetime, datetime]:
        """Return the earliest and the latest time, by *clock*, at which the service may have created its sampler."""
        began, tolerance = self.began.by(clock)
        ended, _ = self.ended.by(clock)
        return began - tolerance, ended + tolerance

    def may_have_made(self, sampler: Sampler, known: KnownSamplers, window: tuple[datetime, datetime]) -> bool:
        """Return True if this create may have made *sampler*; *window* is what `window()` returned."""
        if (
            sampler.base_model != self.spec.base_model
            or sampler.status in ONLY_BY_DEACTIVATION
            or known.was_made(sampler.id)
        ):
            return False
        seen_at = known.seen_at(sampler.id)
        if seen_at is not None and self.began.monotonic is not None and seen_at < self.began.monotonic:
            return False
        return window[0] <= sampler.created_at <= window[1]


def candidates_for_each(
    creates: Sequence[UnknownCreate], listed: Iterable[Sampler], known: KnownSamplers, clock: ServiceClock
) -> dict[UnknownCreate, tuple[Sampler, ...]]:
    """Return for each of *creates* the samplers of *listed* that it may have made, newest first."""
    by_model: defaultdict[str, list[Sampler]] = defaultdict(list)
    for sampler in listed:
        by_model[sampler.base_model].append(sampler)
    candidates: dict[UnknownCreate, tuple[Sampler, ...]] = {}
    for create in creates:
        window = create.window(clock)
        same_model = by_model[create.spec.base_model]
        candidates[create] = tuple(each for each in same_model if create.may_have_made(each, known, window))
    return candidates


def shows_too_few(creates: Iterable[UnknownCreate], candidates: Collection[Sampler]) -> bool:
    """Return True if a base model has fewer candidates than unknown creates, since a list can lag behind."""
    listed = Counter(sampler.base_model for sampler in candidates)
    wanted = Counter(create.spec.base_model for create in creates)
    return any(listed[model] < count for model, count in wanted.items())
