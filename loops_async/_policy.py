"""What a status means for a wait, and when to look again: data that a caller can replace."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from attrs import field, frozen
from tenacity import RetryCallState, wait_exponential

from . import _checks
from .models import DeploymentStatus

READY: Final = frozenset({DeploymentStatus.ACTIVE})

FAILED: Final = frozenset(
    {
        DeploymentStatus.UNHEALTHY,
        DeploymentStatus.DEACTIVATING,
        DeploymentStatus.INACTIVE,
        DeploymentStatus.FAILED,
        DeploymentStatus.BUILD_FAILED,
        DeploymentStatus.DEPLOY_FAILED,
        DeploymentStatus.BUILD_STOPPED,
    }
)

PERMANENT: Final = frozenset(
    {DeploymentStatus.BUILD_FAILED, DeploymentStatus.DEPLOY_FAILED, DeploymentStatus.BUILD_STOPPED}
)
"""Failed statuses out of which no sampler comes up again."""

MULTIPLES: Final[Mapping[str, float]] = MappingProxyType(
    {
        DeploymentStatus.BUILDING: 2.0,
        DeploymentStatus.DEPLOYING: 2.0,
        DeploymentStatus.LOADING_MODEL: 0.5,
        DeploymentStatus.WAKING_UP: 0.5,
    }
)
"""A sampler that is being built cannot be ACTIVE in a moment, one that loads its weights can."""


def _statuses(values: Iterable[str]) -> frozenset[str]:
    # A lone string is an iterable of its letters, which would make a policy that never settles.
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"a set of statuses is needed, such as {{DeploymentStatus.ACTIVE}}, not {values!r}")
    return frozenset(_checks.text("status", value) for value in values)


def _multiples(values: Mapping[str, float]) -> Mapping[str, float]:
    if not isinstance(values, Mapping):
        raise TypeError(f"multiples must map statuses to factors, not be {type(values).__name__}")
    return {
        _checks.text("status", status): _checks.number(f"multiples[{status!r}]", factor, exclusive=True)
        for status, factor in values.items()
    }


@frozen
class PollPolicy:
    """How a wait polls, and which statuses end it.

    The pause after a look is `initial * factor ** n` seconds, where `n` counts the looks that brought nothing new
    since the status last changed, times the status's multiple, at most `maximum`, give or take the jitter. Statuses
    may be members of `DeploymentStatus` or plain names. What is in neither set is waited through.

    Raises:
        TypeError, ValueError: An argument is not what the field says.
    """

    initial: float = field(default=2.0)
    """Seconds until the second look, above 0; the first look is taken at once."""
    factor: float = field(default=1.3)
    """By which the pause grows while nothing changes, at least 1."""
    maximum: float = field(default=15.0)
    """Seconds: the longest pause, before jitter; at least `initial`."""
    jitter: float = field(default=0.1)
    """Part of the pause by which it varies at random, up or down; from 0 to below 1."""
    multiples: Mapping[str, float] = field(default=MULTIPLES, converter=_multiples, hash=False)
    """Factor of the pause by the status last seen, above 0; 1 for a status that is not listed."""
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

    _backoff: wait_exponential = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        _checks.number("initial", self.initial, exclusive=True)
        _checks.number("factor", self.factor, minimum=1.0)
        if _checks.number("maximum", self.maximum) < self.initial:
            raise ValueError(f"maximum ({self.maximum:g} s) must not be below initial ({self.initial:g} s)")
        if _checks.number("jitter", self.jitter) >= 1:
            raise ValueError(f"jitter must be below 1, not {self.jitter!r}")
        _checks.number("unhealthy_grace", self.unhealthy_grace)
        _checks.number("missing_grace", self.missing_grace)
        if both := self.ready & self.failed:
            raise ValueError(f"ready and failed share {', '.join(sorted(both))}")
        object.__setattr__(
            self,
            "_backoff",
            wait_exponential(multiplier=self.initial, exp_base=self.factor, max=self.maximum),
        )

    def pause(self, looks: int, status: str | None = None) -> float:
        """Return the seconds until the next look.

        Args:
            looks: Looks that brought nothing new since the status last changed, or that failed, at least 1.
            status: The status last seen; None while there is none, and after a failed look.
        """
        seconds = self._backoff(_attempt(looks))
        if status is not None:
            seconds *= self.multiples.get(status, 1.0)
        return min(seconds, self.maximum) * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311


_no_call: Any = None


def _attempt(number: int) -> RetryCallState:
    """Return what tenacity's waits read the number of attempts from."""
    state = RetryCallState(_no_call, None, (), {})
    state.attempt_number = number
    return state
