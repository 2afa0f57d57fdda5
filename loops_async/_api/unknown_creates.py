"""Creates whose answer was lost, and which of the account's samplers they may have made. No I/O.

A sampler carries neither a label nor the id of its session, so all there is to go by is its base model, its owner, the
time of its creation and what is known of it from elsewhere.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from attrs import frozen

from ..errors import CreateOutcomeUnknown
from ..models import ONLY_BY_DEACTIVATION, Sampler, SamplerSpec

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far the service's clock may be from ours when candidates are matched by their time of creation."""


@frozen
class Timestamps:
    """A moment on two clocks."""

    utc: datetime
    monotonic: float = -math.inf
    """Minus infinity for a moment of another process, whose clock says nothing here."""


@frozen(eq=False)
class UnknownCreate:
    """A create that may or may not have made a sampler."""

    unknown: CreateOutcomeUnknown
    """What its caller is to be told; its `__cause__` is what the request came to."""
    began: Timestamps
    """The moment before its POST."""
    ended: Timestamps
    """When it could have been processed at the latest."""

    @property
    def spec(self) -> SamplerSpec:
        """What was asked for."""
        return self.unknown.spec

    def may_have_made(self, sampler: Sampler, known_since: float | None) -> bool:
        """Tell whether *sampler*, known here since the monotonic time *known_since*, may be this create's."""
        return (
            sampler.base_model == self.spec.base_model
            and sampler.status not in ONLY_BY_DEACTIVATION
            and self.began.utc - CLOCK_SKEW <= sampler.created_at <= self.ended.utc + CLOCK_SKEW
            and (known_since is None or known_since >= self.began.monotonic)
        )

    def told(self, candidates: Iterable[Sampler] = (), look_error: Exception | None = None) -> CreateOutcomeUnknown:
        """Return a new error that tells the *candidates*, too."""
        found = CreateOutcomeUnknown(self.spec, tuple(candidates), look_error)
        found.__cause__ = self.unknown.__cause__
        return found


class Follower(Protocol):
    """Whoever keeps an account of a create while it is under way."""

    async def sending(self) -> None:
        """Take that a POST is about to be sent. What this raises keeps it from being sent."""
        ...

    def refused(self) -> None:
        """Take that the POST made nothing; it may be sent again, and be announced again."""
        ...

    def lost(self, loss: UnknownCreate) -> None:
        """Take that nobody knows what the POST made. With a follower, it is for him to have it settled."""
        ...


def by_model(losses: Iterable[UnknownCreate]) -> dict[str, list[UnknownCreate]]:
    """Group *losses* by their base model, each group in the order of its creates."""
    groups: defaultdict[str, list[UnknownCreate]] = defaultdict(list)
    for loss in sorted(losses, key=lambda each: (each.began.monotonic, each.began.utc)):
        groups[loss.spec.base_model].append(loss)
    return dict(groups)


def shared(
    losses: Sequence[UnknownCreate], candidates: tuple[Sampler, ...], known: Mapping[str, float]
) -> dict[UnknownCreate, tuple[Sampler, ...]]:
    """Return which of the *candidates* each of the *losses* may have made, all of one base model, in their order."""
    # Whatever the last to begin and the first to end may have made, all may have: a burst need not be gone through.
    strictest = (losses[-1], min(losses, key=lambda loss: loss.ended.utc)) if losses else ()
    if all(loss.may_have_made(each, known.get(each.id)) for loss in strictest for each in candidates):
        return dict.fromkeys(losses, candidates)
    return {loss: tuple(each for each in candidates if loss.may_have_made(each, known.get(each.id))) for loss in losses}


def matched(
    losses: Sequence[UnknownCreate], candidates: Iterable[Sampler], known: Mapping[str, float]
) -> dict[UnknownCreate, Sampler] | None:
    """Give each of the *candidates* to one of the *losses*, all of one base model and in the order of their creates.

    None if that is no safe thing to do: the creates did not all ask for the same, so that it matters who gets which;
    or a candidate is left over, so that at least one of them is somebody else's and nobody can tell which. Creates that
    nothing is left for were not processed, or are not listed yet: they stay lost.
    """
    if len({loss.spec for loss in losses}) > 1:
        return None
    free = list(losses)
    given: dict[UnknownCreate, Sampler] = {}
    # What was known early can only be an early create's, so it chooses first, and takes the latest that it can.
    for sampler in sorted(candidates, key=lambda each: known.get(each.id, math.inf)):
        loss = next((each for each in reversed(free) if each.may_have_made(sampler, known.get(sampler.id))), None)
        if loss is None:
            return None
        free.remove(loss)
        given[loss] = sampler
    return given
