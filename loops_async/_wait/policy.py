"""When a wait polls, and what a status means to it: data that a caller can replace."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from attrs import NOTHING, field, fields, frozen
from tenacity import RetryCallState
from tenacity.wait import wait_base

from .. import _validate
from ..models import FAILED, READY, DeploymentStatus


@frozen(eq=False, repr=False)
class StatusFactors(Mapping[str, float]):
    """An immutable mapping of statuses to factors.

    `types.MappingProxyType` would not do: it can be neither pickled nor copied, and a policy must be both.
    """

    _items: tuple[tuple[str, float], ...] = ()

    def __getitem__(self, status: str) -> float:
        for each, factor in self._items:
            if each == status:
                return factor
        raise KeyError(status)

    def __iter__(self) -> Iterator[str]:
        return (status for status, _ in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items))

    def __repr__(self) -> str:
        return repr(dict(self._items))


def _status_factors(values: Mapping[str, float]) -> StatusFactors:
    if isinstance(values, StatusFactors):
        return values
    if not isinstance(values, Mapping):
        raise TypeError(f"multiples must map statuses to factors, not be {type(values).__name__}")
    return StatusFactors(
        tuple(
            (
                str(_validate.require_str("status", status)),
                _validate.require_number(f"multiples[{status!r}]", factor, exclusive=True),
            )
            for status, factor in values.items()
        )
    )


MULTIPLES: Final = _status_factors(
    {
        DeploymentStatus.LOADING_MODEL: 0.12,
        DeploymentStatus.WAKING_UP: 0.25,
        DeploymentStatus.UPDATING: 0.5,
        DeploymentStatus.SCALED_TO_ZERO: 0.5,
    }
)
"""A sampler that is being built cannot be ACTIVE in a moment; one that loads its weights can."""


def _statuses(values: Iterable[str]) -> frozenset[str]:
    # A lone string is an iterable of its letters, which would make a policy that never ends a wait.
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"a set of statuses is needed, such as {{DeploymentStatus.ACTIVE}}, not {values!r}")
    return frozenset(_validate.require_str("status", value) for value in values)


_LEAST_VALUES: Final[Mapping[str, float]] = MappingProxyType(
    {"initial": 1e-4, "factor": 1.0, "maximum": 0.0, "jitter": 0.0, "unhealthy_grace": 0.0, "missing_grace": 0.0}
)


@frozen(cache_hash=True, repr=False)
class PollPolicy:
    """How a wait polls, and which statuses end it. Immutable: `attrs.evolve(policy, maximum=5.0)` makes another one.

    After a status has been seen for the first time, the pauses between polls are `initial`, `initial * factor`,
    `initial * factor ** 2` and so on, up to `maximum`. Each pause is multiplied by the factor that `multiples` gives
    to the status, and then varied by `jitter`. With the defaults, a sampler that is BUILDING is polled after 2, 3,
    4.5, 6.8, 10.1 and then every 15 s; one that is LOADING_MODEL after 0.24, 0.36 and so on, then every 1.8 s.

    That is the pace of one wait. With many waits on one client, the pauses of the last stages are longer: from eleven
    samplers on, no pause is shorter than `initial`.

    Statuses are members of `DeploymentStatus` or plain strings. A status that is in neither `ready` nor `failed` is
    waited through.

    Attributes:
        initial: Seconds between the first poll and the second, at least 0.0001; default 2. The first poll is sent at
            once or, when other waits of the client have just been polled for, at most half of *initial* and at most
            one second later, so that a burst of waits shares its first poll.
        factor: Growth of the pause from poll to poll while the status stays the same, at least 1; default 1.5. After
            failed polls the pause grows by 2 or by *factor*, whichever is more.
        maximum: Longest pause in seconds, before multiple and jitter, at least *initial*; default 15.
            `wait_until_down()` polls at this pace.
        jitter: Share of a pause by which it varies at random in both directions, from 0 to below 1; default 0.1.
        multiples: Factors of the pause by the status last seen, above 0; a status that is not listed has 1. By
            default LOADING_MODEL has 0.12, WAKING_UP 0.25, UPDATING and SCALED_TO_ZERO 0.5.
        ready: Statuses that end a wait with success; by default ACTIVE.
        failed: Statuses that end a wait with `SamplerFailed`; by default UNHEALTHY, DEACTIVATING, INACTIVE, FAILED,
            BUILD_FAILED, DEPLOY_FAILED and BUILD_STOPPED.
        wake: Whether a sampler that is SCALED_TO_ZERO is woken, once per visit to that status; default True.
        unhealthy_grace: Seconds for which a sampler may be UNHEALTHY before that counts as failed; default 0.
        missing_grace: Seconds for which the service may answer that it does not know a sampler, or that it refuses to
            describe it (404, 403 and other 4xx), before that ends the wait with its error; default 30. They count
            from the first such answer since the last good one.

    Raises:
        TypeError, ValueError: An argument is not what is said above.
    """

    initial: float = 2.0
    factor: float = 1.5
    maximum: float = 15.0
    jitter: float = 0.1
    multiples: Mapping[str, float] = field(default=MULTIPLES, converter=_status_factors)
    ready: frozenset[str] = field(default=READY, converter=_statuses)
    failed: frozenset[str] = field(default=FAILED, converter=_statuses)
    wake: bool = True
    unhealthy_grace: float = 0.0
    missing_grace: float = 30.0

    def __attrs_post_init__(self) -> None:
        for name, minimum in _LEAST_VALUES.items():
            # Converters would do this, but signatures then lose the annotations of the fields.
            object.__setattr__(self, name, _validate.require_number(name, getattr(self, name), minimum=minimum))
        if self.maximum < self.initial:
            raise ValueError(f"maximum ({self.maximum:g} s) must not be below initial ({self.initial:g} s)")
        if self.jitter >= 1:
            raise ValueError(f"jitter must be below 1, not {self.jitter!r}")
        if not isinstance(self.wake, bool):
            raise TypeError(f"wake must be a bool, not {type(self.wake).__name__}")
        if both := self.ready & self.failed:
            raise ValueError(f"ready and failed share {', '.join(sorted(both))}")

    def __repr__(self) -> str:
        """Return the call that makes this policy, without what is as by default."""
        changed = []
        for each in fields(PollPolicy):
            value = getattr(self, each.name)
            if each.default is NOTHING or value != each.default:
                changed.append(f"{each.name}={_plain(value)}")
        return f"PollPolicy({', '.join(changed)})"

    def pause(self, elapsed: float, status: str | None = None) -> float:
        """Return the seconds until the next poll, before jitter.

        A pause that grows by `factor` from poll to poll is `factor - 1` times the time elapsed, plus `initial`:
        2 after 0 s, 3 after 2 s, 4.5 after 5 s. Counting by time gives the same pauses where one wait polls by
        itself, and still does where the polls of other waits come in between.

        Args:
            elapsed: Seconds since the status last changed.
            status: The status last seen; None while there is none.
        """
        multiple = 1.0 if status is None else self.multiples.get(status, 1.0)
        return min(self.maximum, self.initial + (self.factor - 1) * max(0.0, elapsed) / multiple) * multiple

    def backoff(self, failures: int) -> float:
        """Return the seconds until the next poll after *failures* failed ones in a row, at least 1; before jitter."""
        try:
            return float(min(self.maximum, self.initial * max(self.factor, 2.0) ** (failures - 1)))
        except OverflowError:
            return self.maximum

    def jittered(self, seconds: float, chance: float) -> float:
        """Return *seconds* varied by the jitter, for a *chance* between 0 and 1."""
        return seconds * (1 + self.jitter * (2 * chance - 1))


class PolicyBackoff(wait_base):
    """The backoff of a `PollPolicy`, as tenacity takes it."""

    def __init__(self, policy: PollPolicy) -> None:
        self._policy = policy

    def __call__(self, retry_state: RetryCallState) -> float:
        """Return the seconds to wait after an attempt that failed."""
        seconds = self._policy.backoff(retry_state.attempt_number)
        return self._policy.jittered(seconds, random.random())  # noqa: S311


def _plain(value: object) -> str:
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(repr(str(status)) for status in value))}}}" if value else "frozenset()"
    return repr(value)
