"""What a status means for a wait, and when to look again: data that a caller can replace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from attrs import field, frozen
from tenacity import RetryCallState, wait_exponential

from .. import _validate
from ..models import FAILED, READY, DeploymentStatus

MULTIPLES: Final[Mapping[str, float]] = MappingProxyType(
    {
        DeploymentStatus.LOADING_MODEL: 0.12,
        DeploymentStatus.WAKING_UP: 0.25,
        DeploymentStatus.UPDATING: 0.5,
        DeploymentStatus.SCALED_TO_ZERO: 0.5,
    }
)
"""A sampler that is being built cannot be ACTIVE in a moment, one that loads its weights can."""


def _statuses(values: Iterable[str]) -> frozenset[str]:
    # A lone string is an iterable of its letters, which would make a policy that never settles.
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"a set of statuses is needed, such as {{DeploymentStatus.ACTIVE}}, not {values!r}")
    return frozenset(_validate.require_str("status", value) for value in values)


def _multiples(values: Mapping[str, float]) -> Mapping[str, float]:
    if not isinstance(values, Mapping):
        raise TypeError(f"multiples must map statuses to factors, not be {type(values).__name__}")
    return {
        _validate.require_str("status", status): _validate.require_number(
            f"multiples[{status!r}]", factor, exclusive=True
        )
        for status, factor in values.items()
    }


@frozen(cache_hash=True)
class PollPolicy:
    """How a wait polls, and which statuses end it.

    The pauses between looks are `initial`, `initial * factor`, `initial * factor ** 2` and so on up to `maximum`, and
    begin anew when the status changes; each is multiplied by the status's own factor, and varied by the jitter. The
    more samplers a client waits for, the less the last stages are hurried: with ten or more, no two polls are closer
    than `initial`. Statuses may be members of `DeploymentStatus` or plain names. What is in neither set is waited
    through.

    Raises:
        TypeError, ValueError: An argument is not what the field says.
    """

    initial: float = field(default=2.0)
    """Seconds until the second look, at least 0.0001. The first look is taken at once, or, if others wait already,
    up to half of this later, and never more than a second, so that those who join together are asked for together."""
    factor: float = field(default=1.5)
    """By which the pause grows while nothing changes, at least 1. After failed polls it at least doubles."""
    maximum: float = field(default=15.0)
    """Seconds: the longest pause, before multiple and jitter; at least `initial`."""
    jitter: float = field(default=0.1)
    """Part of the pause by which it varies at random, up or down; from 0 to below 1."""
    multiples: Mapping[str, float] = field(default=MULTIPLES, converter=_multiples, hash=False)
    """Factor of the pause by the status last seen, above 0; 1 for a status that is not listed. Early stages can do
    with more, the one before ACTIVE deserves less."""
    ready: frozenset[str] = field(default=READY, converter=_statuses)
    """Statuses that end the wait well."""
    failed: frozenset[str] = field(default=FAILED, converter=_statuses)
    """Statuses that end the wait with `SamplerFailed`."""
    wake: bool = field(default=True)
    """Whether a sampler that is SCALED_TO_ZERO is woken, once per visit to that status."""
    unhealthy_grace: float = field(default=0.0)
    """Seconds for which UNHEALTHY is waited through before it counts as failed."""
    missing_grace: float = field(default=30.0)
    """Seconds from the wait's start in which a sampler that the service does not know (yet) is waited for."""

    _growth: wait_exponential = field(init=False, repr=False, eq=False)
    _backoff: wait_exponential = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        _validate.require_number("initial", self.initial, minimum=1e-4)
        _validate.require_number("factor", self.factor, minimum=1.0)
        if _validate.require_number("maximum", self.maximum) < self.initial:
            raise ValueError(f"maximum ({self.maximum:g} s) must not be below initial ({self.initial:g} s)")
        if _validate.require_number("jitter", self.jitter) >= 1:
            raise ValueError(f"jitter must be below 1, not {self.jitter!r}")
        _validate.require_number("unhealthy_grace", self.unhealthy_grace)
        _validate.require_number("missing_grace", self.missing_grace)
        if not isinstance(self.wake, bool):
            raise TypeError(f"wake must be a bool, not {type(self.wake).__name__}")
        if both := self.ready & self.failed:
            raise ValueError(f"ready and failed share {', '.join(sorted(both))}")
        for name, base in (("_growth", self.factor), ("_backoff", max(self.factor, 2.0))):
            wait = wait_exponential(multiplier=self.initial, exp_base=base, max=self.maximum)
            object.__setattr__(self, name, wait)

    def pause(self, elapsed: float, status: str | None = None) -> float:
        """Return the seconds until the next look, before jitter.

        Args:
            elapsed: Seconds since the status last changed. Counting by time gives the same pauses as counting looks,
                and goes on doing so where other waits cause more of them.
            status: The status last seen; None while there is none.
        """
        multiple = 1.0 if status is None else self.multiples.get(status, 1.0)
        looks = 1.0
        if self.factor > 1 and elapsed > 0:
            looks += math.log1p(elapsed / multiple * (self.factor - 1) / self.initial) / math.log(self.factor)
        return self._growth(_attempt(looks)) * multiple

    def backoff(self, failures: int) -> float:
        """Return the seconds until the next look after so many failed ones in a row, at least 1; before jitter."""
        return self._backoff(_attempt(failures))

    def jittered(self, seconds: float, chance: float) -> float:
        """Return *seconds* varied by the jitter, for a *chance* between 0 and 1."""
        return seconds * (1 + self.jitter * (2 * chance - 1))


_no_call: Any = None


def _attempt(number: Any) -> RetryCallState:
    """Return what tenacity's waits read the number of attempts from; to them it may be a fraction, too."""
    state = RetryCallState(_no_call, None, (), {})
    state.attempt_number = number
    return state
